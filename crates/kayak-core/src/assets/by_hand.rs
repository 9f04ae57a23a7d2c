//! What somebody edited by hand in an asset directory: told from what was rendered by digests that are
//! kept beside it, and kept by later renderings until it is reverted.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::{Assets, Content, is_seed};
use crate::object::short_digest;

/// Where an asset directory keeps the digests of what was rendered into it.
pub const RENDERED: &str = "rendered.json";
/// Stands for a file that is not there.
const ABSENT: &str = "absent";

/// For each file that may be edited, the digests of what was rendered. There are two while one
/// rendering takes the place of another, so that a cut-off is not taken for an edit.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Rendered(BTreeMap<String, BTreeSet<String>>);

/// Files that somebody edited, with what is there now; `None` if it was removed.
pub type Edited = BTreeMap<String, Option<Content>>;

impl Rendered {
    /// Takes the digests of a rendering.
    pub fn of(files: &BTreeMap<String, Content>) -> Self {
        let editable = files.iter().filter(|(path, _)| is_editable(path));
        Self(
            editable.map(|(path, content)| (path.clone(), BTreeSet::from([digest(Some(content))]))).collect(),
        )
    }

    /// Accepts what either of two renderings has.
    #[must_use]
    pub fn or(&self, other: &Self) -> Self {
        let absent = BTreeSet::from([ABSENT.to_owned()]);
        let paths: BTreeSet<_> = self.0.keys().chain(other.0.keys()).cloned().collect();
        let either = |path: String| {
            let digests = [self, other].map(|rendered| rendered.0.get(&path).unwrap_or(&absent));
            let union = digests[0] | digests[1];
            (path, union)
        };
        Self(paths.into_iter().map(either).collect())
    }

    /// Finds what was edited among the files of an asset directory. Files that were never rendered are
    /// the owner's additions: manifests of their own, for example.
    pub fn edited(&self, files: &BTreeMap<String, Content>) -> Edited {
        let known = self.0.iter().filter(|(path, digests)| !digests.contains(&digest(files.get(*path))));
        let added = files.keys().filter(|path| is_editable(path) && !self.0.contains_key(*path));
        known
            .map(|(path, _)| path)
            .chain(added)
            .map(|path| (path.clone(), files.get(path).cloned()))
            .collect()
    }
}

impl Assets {
    /// Puts what was edited by hand in the place of what was rendered.
    pub fn keep(&mut self, edited: &Edited) {
        for (path, content) in edited {
            match content {
                Some(content) => self.files.insert(path.clone(), content.clone()),
                None => self.files.remove(path),
            };
        }
    }
}

/// Manifests and nodes' files may be edited. Keys, and what only carries them, are not rendered but
/// issued; facts are resolved anew.
fn is_editable(path: &str) -> bool {
    let node_path = path.strip_prefix("nodes/").and_then(|rest| rest.find('/').map(|at| &rest[at..]));
    ["manifests/", "bootstrap-manifests/"].iter().any(|prefix| path.starts_with(prefix))
        || node_path.is_some_and(|path| !is_seed(path))
}

fn digest(content: Option<&Content>) -> String {
    match content {
        Some(Content::File(bytes)) => short_digest(bytes),
        Some(Content::Link(target)) => format!("link to {target}"),
        None => ABSENT.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn files(pairs: &[(&str, &str)]) -> BTreeMap<String, Content> {
        pairs.iter().map(|(path, text)| ((*path).to_owned(), Content::File((*text).into()))).collect()
    }

    #[test]
    fn edits_additions_and_removals_are_found_and_nothing_else() {
        let rendered = files(&[
            ("manifests/a.yaml", "a"),
            ("manifests/b.yaml", "b"),
            ("nodes/n/etc/x", "x"),
            ("tls/ca.key", "old"),
            ("nodes/n/var/lib/kubelet/pki/first.pem", "seed"),
        ]);
        let record = Rendered::of(&rendered);
        assert_eq!(record.edited(&rendered).len(), 0);
        let now = files(&[
            ("manifests/a.yaml", "edited"),
            ("manifests/c.yaml", "added"),
            ("nodes/n/etc/x", "x"),
            ("tls/ca.key", "new"),
        ]);
        let edited = record.edited(&now);
        let found: Vec<_> = edited.iter().map(|(path, content)| (path.as_str(), content.is_some())).collect();
        assert_eq!(
            found,
            [("manifests/a.yaml", true), ("manifests/b.yaml", false), ("manifests/c.yaml", true)]
        );
    }

    #[test]
    fn a_rendering_that_was_cut_off_is_no_edit() {
        let old = files(&[("manifests/a.yaml", "1"), ("manifests/gone.yaml", "1")]);
        let new = files(&[("manifests/a.yaml", "2"), ("manifests/came.yaml", "2")]);
        let record = Rendered::of(&old).or(&Rendered::of(&new));
        for there in [&old, &new, &files(&[("manifests/a.yaml", "2")])] {
            assert!(record.edited(there).is_empty());
        }
        assert_eq!(record.edited(&files(&[("manifests/a.yaml", "3")])).len(), 1);
    }
}
