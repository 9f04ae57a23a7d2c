use super::*;
use crate::fixture::{IMAGE, Scratch, bundle};

#[test]
fn a_flipped_byte_in_any_blob_is_found() {
    let scratch = Scratch::new();
    let bundle = bundle(&scratch.path("bundle"), "one");
    assert_eq!(bundle.verify().unwrap(), []);
    for blob in bundle.blobs() {
        let path = bundle.layout.blob_path(&blob.digest);
        let content = std::fs::read(&path).unwrap();
        let mut damaged = content.clone();
        *damaged.last_mut().unwrap() ^= 1;
        std::fs::write(&path, damaged).unwrap();
        let expected =
            Damage { blob: blob.digest.clone(), images: vec![IMAGE.to_owned()], kind: DamageKind::Content };
        assert_eq!(bundle.verify().unwrap(), [expected]);
        std::fs::write(&path, content).unwrap();
    }
}

#[test]
fn a_missing_and_a_short_blob_are_found() {
    let scratch = Scratch::new();
    let bundle = bundle(&scratch.path("bundle"), "one");
    let image = bundle.image(IMAGE).unwrap();
    std::fs::remove_file(bundle.layout.blob_path(&image.config.digest)).unwrap();
    std::fs::write(bundle.layout.blob_path(&image.layer.digest), "short").unwrap();
    let kinds: Vec<_> = bundle.verify().unwrap().iter().map(|damage| damage.kind).collect();
    let size = DamageKind::Size { expected: image.layer.size, found: 5 };
    assert_eq!(kinds, [DamageKind::Missing, size]);
    bundle.discard(&bundle.verify().unwrap()).unwrap();
    assert!(!bundle.layout.blob_path(&image.layer.digest).exists());
    assert!(bundle.into_whole_images().is_empty());
}

#[test]
fn a_bundle_with_a_damaged_manifest_is_not_opened() {
    let scratch = Scratch::new();
    let directory = scratch.path("bundle");
    let bundle = bundle(&directory, "one");
    std::fs::write(bundle.layout.blob_path(bundle.images()[0].digest()), "{}").unwrap();
    assert!(matches!(Bundle::open(&directory), Err(OpenError::DamagedManifest { .. })));
}

#[test]
fn the_identity_follows_the_content() {
    let scratch = Scratch::new();
    let digest = |name, content| bundle(&scratch.path(name), content).digest();
    assert_eq!(digest("a", "one"), digest("b", "one"));
    assert_ne!(digest("a", "one"), digest("c", "two"));
}

#[test]
fn images_that_were_never_built_are_lacking() {
    let scratch = Scratch::new();
    let catalog = Catalog::embedded().unwrap();
    let lacking = bundle(&scratch.path("bundle"), "one").lacks(&catalog);
    assert_eq!(lacking.len(), catalog.images().count());
}
