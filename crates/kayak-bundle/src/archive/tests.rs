use super::*;
use crate::fixture::{IMAGE, Scratch, bundle};

fn flip(path: &Utf8Path, position: usize) {
    let mut bytes = std::fs::read(path).unwrap();
    bytes[position] ^= 1;
    std::fs::write(path, bytes).unwrap();
}

#[test]
fn what_is_exported_can_be_imported() {
    let scratch = Scratch::new();
    let (file, there) = (scratch.path("file"), scratch.path("there/bundle"));
    let here = bundle(&scratch.path("here"), "one");
    here.export(&file).unwrap();
    let imported = Bundle::import(&file, &there).unwrap();
    assert_eq!(imported.digest(), here.digest());
    assert_eq!(imported.verify().unwrap(), []);
}

#[test]
fn an_export_is_the_same_every_time() {
    let scratch = Scratch::new();
    let files = ["a", "b"].map(|name| {
        let file = scratch.path(&format!("{name}.file"));
        bundle(&scratch.path(name), "one").export(&file).unwrap();
        std::fs::read(file).unwrap()
    });
    assert_eq!(files[0], files[1]);
}

#[test]
fn an_import_takes_the_place_of_the_bundle_before() {
    let scratch = Scratch::new();
    let (file, place) = (scratch.path("file"), scratch.path("place/bundle"));
    bundle(&place, "old");
    let new = bundle(&scratch.path("new"), "new");
    new.export(&file).unwrap();
    Bundle::import(&file, &place).unwrap();
    assert_eq!(Bundle::open(&place).unwrap().digest(), new.digest());
    assert_eq!(files::list(&scratch.path("place")).unwrap(), ["bundle"]);
}

#[test]
fn a_damaged_file_leaves_the_bundle_before_untouched() {
    let scratch = Scratch::new();
    let (good, bad, place) = (scratch.path("good"), scratch.path("bad"), scratch.path("place/bundle"));
    let old = bundle(&place, "old");
    let new = bundle(&scratch.path("new"), "new");
    new.export(&good).unwrap();
    let bytes = std::fs::read(&good).unwrap();
    for position in 0..bytes.len() {
        std::fs::write(&bad, &bytes).unwrap();
        flip(&bad, position);
        match Bundle::import(&bad, &scratch.path("other/bundle")) {
            // A few bits of the compressed form say nothing about what it holds.
            Ok(imported) => assert_eq!(imported.digest(), new.digest(), "byte {position}"),
            Err(_) => drop(Bundle::import(&bad, &place).unwrap_err()),
        }
    }
    std::fs::write(&bad, &bytes[..bytes.len() / 2]).unwrap();
    Bundle::import(&bad, &place).unwrap_err();
    assert_eq!(Bundle::open(&place).unwrap().digest(), old.digest());
    assert_eq!(files::list(&scratch.path("place")).unwrap(), ["bundle"]);
}

#[test]
fn a_file_that_lacks_a_blob_is_refused() {
    let scratch = Scratch::new();
    let whole = bundle(&scratch.path("whole"), "one");
    let mut tar = Vec::new();
    whole.archive(&mut tar, &[IMAGE]).unwrap();
    let mut shorter = tar::Builder::new(Vec::new());
    let layer = whole.images()[0].layer.digest.clone();
    for entry in tar::Archive::new(tar.as_slice()).entries().unwrap() {
        let entry = entry.unwrap();
        if !entry.path().unwrap().ends_with(layer.hex()) {
            shorter.append(&entry.header().clone(), entry).unwrap();
        }
    }
    let file = scratch.path("file");
    let compressed = zstd::encode_all(shorter.into_inner().unwrap().as_slice(), 1).unwrap();
    std::fs::write(&file, compressed).unwrap();
    let error = Bundle::import(&file, &scratch.path("place/bundle")).unwrap_err();
    assert!(matches!(error, ImportError::Incomplete { blob, .. } if blob == layer));
}

#[test]
fn an_archive_of_a_bundle_that_changed_size_fails() {
    let scratch = Scratch::new();
    let bundle = bundle(&scratch.path("bundle"), "one");
    let layer = bundle.layout.blob_path(&bundle.images()[0].layer.digest);
    std::fs::write(&layer, "short").unwrap();
    bundle.archive(Vec::new(), &[IMAGE]).unwrap_err();
}
