//! Where kayak keeps things on the machine it runs on.

use std::env;

use camino::Utf8PathBuf;

/// Where the machine has what runs, whoever's it is: a restart of the machine empties it.
pub const RUN: &str = "/run/kayak";

/// The directories of one user on one machine.
#[derive(Debug, Clone)]
pub struct Dirs {
    /// What can be made again: bundle, builds, prepared images.
    pub cache: Utf8PathBuf,
    /// What cannot: clusters.
    pub state: Utf8PathBuf,
}

impl Dirs {
    /// Reads `KAYAK_CACHE_DIR`, `KAYAK_STATE_DIR` and the usual variables.
    pub fn from_env() -> Self {
        let var = |name| env::var(name).ok().filter(|v| !v.is_empty()).map(Utf8PathBuf::from);
        let home = || var("HOME").unwrap_or_else(|| "/root".into()).join(".cache");
        Self {
            cache: var("KAYAK_CACHE_DIR")
                .unwrap_or_else(|| var("XDG_CACHE_HOME").unwrap_or_else(home).join("kayak")),
            state: var("KAYAK_STATE_DIR").unwrap_or_else(|| "/var/lib/kayak".into()),
        }
    }

    /// Returns the directory of one cluster.
    pub fn cluster(&self, name: &str) -> Utf8PathBuf {
        self.state.join(name)
    }

    /// Returns the asset directory of one cluster.
    pub fn assets(&self, name: &str) -> Utf8PathBuf {
        self.cluster(name).join("assets")
    }

    /// Returns the file with the inventory of the machine as it was before one cluster.
    pub fn before(&self, name: &str) -> Utf8PathBuf {
        self.cluster(name).join("before.json")
    }

    /// Returns the names of the clusters there are.
    pub fn clusters(&self) -> Vec<String> {
        let entries = self.state.read_dir_utf8().into_iter().flatten().flatten();
        let mut names: Vec<_> = entries
            .filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()))
            .map(|entry| entry.file_name().to_owned())
            .collect();
        names.sort();
        names
    }
}
