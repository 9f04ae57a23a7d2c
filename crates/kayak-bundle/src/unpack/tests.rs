use super::*;
use crate::fixture::{IMAGE, Scratch, bundle};

#[test]
fn a_file_is_found_through_links() {
    let scratch = Scratch::new();
    let bundle = bundle(&scratch.path("bundle"), "one");
    let destination = scratch.path("new/program");
    bundle.extract_file(IMAGE, "/bin/alias".into(), &destination).unwrap();
    assert_eq!(std::fs::read_to_string(&destination).unwrap(), "one");
    assert_eq!(destination.metadata().unwrap().mode() & 0o777, 0o755);
    let absent = bundle.extract_file(IMAGE, "/bin/other".into(), &destination);
    assert!(matches!(absent, Err(UnpackError::NoFile { .. })));
}

#[test]
fn a_damaged_layer_is_not_unpacked() {
    let scratch = Scratch::new();
    let bundle = bundle(&scratch.path("bundle"), "one");
    let layer = bundle.layout.blob_path(&bundle.images()[0].layer.digest);
    let mut content = std::fs::read(&layer).unwrap();
    *content.last_mut().unwrap() ^= 1;
    std::fs::write(&layer, content).unwrap();
    let destination = scratch.path("root/tree");
    let result = bundle.unpack(IMAGE, &destination);
    assert!(matches!(result, Err(UnpackError::Damaged { .. })), "{result:?}");
    assert_eq!(files::list(&scratch.path("root")).unwrap(), [""; 0]);
}

#[test]
fn what_changed_after_unpacking_is_found() {
    // Files get their owner from the layer, which only root may give them.
    if !rustix::process::geteuid().is_root() {
        return;
    }
    let scratch = Scratch::new();
    let bundle = bundle(&scratch.path("bundle"), "one");
    let tree = scratch.path("root/tree");
    bundle.unpack(IMAGE, &tree).unwrap();
    bundle.unpack(IMAGE, &tree).unwrap();
    let changed = || bundle.changed_since_unpacked(IMAGE, &tree).unwrap();
    assert_eq!(changed(), [""; 0]);
    std::fs::write(tree.join("usr/bin/program"), "two").unwrap();
    std::fs::remove_file(tree.join("usr/bin/alias")).unwrap();
    assert_eq!(changed(), ["usr/bin/alias", "usr/bin/program"]);
}
