//! A small bundle for tests.

use camino::{Utf8Path, Utf8PathBuf};
use tempfile::TempDir;

use crate::bundle::Bundle;
use crate::layout::{CONFIG_TYPE, Index, LAYER_TYPE, Layout, MANIFEST_TYPE, Manifest, NAME};
use crate::tree::{Content, Entry, Tree};

/// The image in every bundle made here.
pub(crate) const IMAGE: &str = "kayak.local/example:v1.0.0";

/// A directory that is removed when the test ends.
pub(crate) struct Scratch(TempDir);

impl Scratch {
    pub(crate) fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    pub(crate) fn path(&self, name: &str) -> Utf8PathBuf {
        Utf8Path::from_path(self.0.path()).unwrap().join(name)
    }
}

/// Makes a bundle of one image, which holds a program that says `content` and two links to it.
pub(crate) fn bundle(directory: &Utf8Path, content: &str) -> Bundle {
    let layout = Layout::at(directory);
    layout.create().unwrap();
    let mut tree = Tree::default();
    tree.insert("usr/bin/program", Entry::file(0o755, Content::Bytes(content.into())));
    tree.insert("usr/bin/alias", Entry::symlink("program"));
    tree.insert("bin", Entry::symlink("usr/bin"));
    tree.insert("tmp", Entry::directory(0o1777));
    let layer = layout.add_with(LAYER_TYPE, |out| tree.write(out)).unwrap();
    let manifest = Manifest {
        schema_version: 2,
        media_type: MANIFEST_TYPE.to_owned(),
        config: layout.add(CONFIG_TYPE, b"{}").unwrap(),
        layers: vec![layer],
        annotations: [].into(),
    };
    let mut image = layout.add(MANIFEST_TYPE, &serde_json::to_vec(&manifest).unwrap()).unwrap();
    image.annotations.insert(NAME.to_owned(), IMAGE.to_owned());
    layout.commit(&Index::new(vec![image])).unwrap();
    Bundle::open(directory).unwrap()
}
