//! What is only done to what the owner has named, and names that do not say what is meant.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use super::{Fact, Observed};
use crate::object::ObjectId;

/// What is only done to what the owner has named; see [`ObjectId::is_called`].
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Named {
    /// Objects, and files of the asset directory, whose edits are undone.
    pub revert: BTreeSet<String>,
    /// Objects that are no longer wished, and are deleted.
    pub remove: BTreeSet<String>,
}

/// A name that does not say what is meant.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum Misnamed {
    /// Nothing is called so.
    #[error("there is nothing called `{name}` to {purpose}; {}", instead(.there))]
    Nothing {
        /// The name.
        name: String,
        /// What it was named for.
        purpose: &'static str,
        /// What may be named for it.
        there: Vec<String>,
    },
    /// Several objects are, in different namespaces.
    #[error("`{name}` is not clear: there are {}", .all.join(", "))]
    Several {
        /// The name.
        name: String,
        /// What is called so.
        all: Vec<String>,
    },
}

fn instead(there: &[String]) -> String {
    if there.is_empty() { "there is none at all".into() } else { format!("there are {}", there.join(", ")) }
}

const REVERT: &str = "revert";
const REMOVE: &str = "remove";

impl Named {
    /// Returns the first name that does not say what is meant: of the wished objects and edited assets one
    /// to revert, of those that are no longer wished one to remove. Where no API tells what there is, nothing
    /// is removed, and no name is wrong.
    pub fn misnamed(&self, wished: &[ObjectId], seen: &Observed) -> Option<Misnamed> {
        self.misnamed_revert(wished, seen).or_else(|| self.misnamed_remove(seen))
    }

    fn misnamed_revert(&self, wished: &[ObjectId], seen: &Observed) -> Option<Misnamed> {
        let edited = || match &seen.api {
            Fact::Known(api) => api.edits().map(|(id, _)| id.to_string()).collect(),
            Fact::Unknown(_) => Vec::new(),
        };
        let there = || edited().into_iter().chain(seen.assets.edited.iter().cloned()).collect();
        self.revert.iter().find_map(|name| misnamed(name, wished, REVERT, there))
    }

    fn misnamed_remove(&self, seen: &Observed) -> Option<Misnamed> {
        match &seen.api {
            Fact::Known(_) => {
                let surplus: Vec<_> = seen.surplus().into_iter().collect();
                let there = || surplus.iter().map(ToString::to_string).collect();
                self.remove.iter().find_map(|name| misnamed(name, &surplus, REMOVE, there))
            }
            Fact::Unknown(_) => None,
        }
    }
}

fn misnamed(
    name: &str,
    objects: &[ObjectId],
    purpose: &'static str,
    there: impl Fn() -> Vec<String>,
) -> Option<Misnamed> {
    let all: Vec<_> = objects.iter().filter(|id| id.is_called(name)).map(ToString::to_string).collect();
    let name = name.to_owned();
    match all.len() {
        0 => Some(Misnamed::Nothing { name, purpose, there: there() }),
        1 => None,
        2.. => Some(Misnamed::Several { name, all }),
    }
}
