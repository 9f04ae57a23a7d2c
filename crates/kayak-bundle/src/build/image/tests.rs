use std::io::Read as _;

use camino::Utf8Path;

use super::*;
use crate::bundle::Bundle;
use crate::fixture::Scratch;
use crate::layout::Index;

fn host() -> Host {
    Host { go: None, architecture: "amd64", suite: "bookworm".to_owned(), sources: None }
}

/// Makes the pause image in `directory`, with a program that says `content`.
fn pause(directory: &Utf8Path, content: &str) -> Bundle {
    let (catalog, host) = (Catalog::embedded().unwrap(), host());
    let units = unit::units(&catalog, &host, &directory.join("build"));
    let program = units.iter().find(|unit| unit.name == "pause").unwrap().program("pause");
    std::fs::create_dir_all(program.parent().unwrap()).unwrap();
    std::fs::write(&program, content).unwrap();

    let image = catalog.images().find(|(_, image)| image.name == "pause").unwrap();
    let assembly = Assembly::of(&catalog, image, &units, &host).unwrap();
    let layout = Layout::at(&directory.join("bundle"));
    layout.create().unwrap();
    let descriptor = assembly.write(&layout).unwrap();
    assert_eq!(descriptor.annotations[KEY], assembly.key.to_string());
    layout.commit(&Index::new(vec![descriptor])).unwrap();
    Bundle::open(&directory.join("bundle")).unwrap()
}

#[test]
fn the_same_inputs_give_the_same_image_anywhere() {
    let scratch = Scratch::new();
    let digest = |name, content| pause(&scratch.path(name), content).digest();
    assert_eq!(digest("a", "one"), digest("b", "one"));
    assert_ne!(digest("a", "one"), digest("c", "two"));
}

#[test]
fn an_image_holds_its_programs_and_what_every_image_holds() {
    let scratch = Scratch::new();
    let bundle = pause(&scratch.path("pause"), "one");
    let image = &bundle.images()[0];
    assert_eq!(image.licenses(), "Apache-2.0");
    for (path, expected) in [("/pause", "one"), ("/etc/passwd", "root:x:0:0:"), ("/etc/hosts", "127.0.0.1 ")]
    {
        let copy = scratch.path("copy");
        bundle.extract_file(image.reference(), path.into(), &copy).unwrap();
        let mut content = String::new();
        std::fs::File::open(copy).unwrap().read_to_string(&mut content).unwrap();
        assert!(content.starts_with(expected), "{path}: {content}");
    }
}

#[test]
fn an_image_is_outdated_when_one_of_its_units_is() {
    let catalog = Catalog::embedded().unwrap();
    let node = catalog.images().find(|(_, image)| image.name == "node").unwrap();
    let key = |go: &str| {
        let host = Host { go: Some(go.to_owned()), ..host() };
        let units = unit::units(&catalog, &host, "/build".into());
        Assembly::of(&catalog, node, &units, &host).unwrap().key
    };
    assert_eq!(key("go1"), key("go1"));
    assert_ne!(key("go1"), key("go2"));
}

#[test]
fn an_image_of_what_nobody_builds_is_not_made() {
    let (catalog, host) = (Catalog::embedded().unwrap(), host());
    let units = unit::units(&catalog, &host, "/build".into());
    let (owner, image) = catalog.images().next().unwrap();
    let files = [("/x".to_owned(), "nobody/x".to_owned())].into();
    let strange = ImageSpec { files, ..image.clone() };
    assert!(Assembly::of(&catalog, (owner, &strange), &units, &host).is_none());
}
