//! What a unit is started with: its command, and what the files hold that it reads.

use std::io;

use kayak_core::node::Unit;
use serde::{Deserialize, Serialize};

use crate::content::{self, Contents};

/// All that makes one start of a unit differ from another.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Recipe {
    pub(super) unit: Unit,
    files: Contents,
}

impl Recipe {
    /// The recipe as of now.
    pub(super) fn of(unit: &Unit) -> io::Result<Self> {
        Ok(Self { unit: unit.clone(), files: content::of(&unit.files)? })
    }

    /// Says what makes `newer` worth a restart. A file that is gone does not: the unit works with
    /// what it has read, and would not start without.
    pub(super) fn difference(&self, newer: &Self) -> Option<String> {
        let changed: Vec<_> = newer
            .files
            .iter()
            .filter(|(file, now)| now.is_some() && self.files.get(*file) != Some(now))
            .map(|(file, _)| format!("`{file}`"))
            .collect();
        if self.unit != newer.unit {
            return Some("it is to be started otherwise".into());
        }
        (!changed.is_empty())
            .then(|| format!("it is to be started with what is in {} now", changed.join(", ")))
    }
}

/// Returns the recipe of a shell script.
#[cfg(test)]
pub(super) fn testing(script: &str) -> Recipe {
    let command = ["/bin/sh", "-c", &format!("exec {script}")].map(str::to_owned).into();
    let unit = Unit { name: "unit".into(), command, env: [].into(), health: None, files: vec![] };
    Recipe { unit, files: [].into() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_restart_is_worth_another_command_or_content_only() {
        let with = |files: &[(&str, Option<&str>)]| Recipe {
            files: files.iter().map(|(file, held)| ((*file).into(), held.map(Into::into))).collect(),
            ..testing("true")
        };
        let difference = |older: &[(&str, Option<&str>)], newer: &[(&str, Option<&str>)]| {
            with(older).difference(&with(newer))
        };
        assert_eq!(difference(&[("a", Some("1"))], &[("a", Some("1"))]), None);
        assert_eq!(difference(&[("a", Some("1"))], &[("a", None)]), None);
        assert_eq!(difference(&[("a", Some("1"))], &[]), None);
        let changed = difference(&[("a", Some("1")), ("b", None)], &[("a", Some("2")), ("b", Some("1"))]);
        assert_eq!(changed.unwrap(), "it is to be started with what is in `a`, `b` now");
        assert_eq!(testing("true").difference(&testing("false")).unwrap(), "it is to be started otherwise");
    }
}
