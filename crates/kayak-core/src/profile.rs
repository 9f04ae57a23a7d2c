//! What a profile means: all that differs between them, in one place. It is applied as the owner's own
//! settings of components are, before those.

use crate::component::{apiserver, controller_manager, etcd};
use crate::config::{FlagValue, Overrides, Profile, Scalar};

/// The variable by which Go is told how much garbage may gather before it is collected: percent of what
/// is alive. Everything in a cluster but kayak is written in Go; 100 is Go's default.
pub const GARBAGE: &str = "GOGC";

/// Flags of one component.
type Flags = &'static [(&'static str, &'static str)];

impl Profile {
    /// How much garbage may gather.
    ///
    /// Measured at rest on one node: the API server's part of the memory (PSS) was 200 MB at 100, 179 MB at
    /// 50 and 152 MB at 25. What that costs is processor time: at 50 the idle cluster took a fifth more of it,
    /// and the slowest requests a third longer.
    pub fn garbage(self) -> &'static str {
        match self {
            Self::Default => "100",
            Self::Home => "25",
        }
    }

    /// What it changes about a component.
    pub fn overrides(self, component: &str) -> Overrides {
        let text = |value: &str| Scalar::Text(value.to_owned());
        let flag = |&(name, value): &(&str, &str)| (name.to_owned(), FlagValue::One(text(value)));
        Overrides {
            extra_args: self.flags(component).iter().map(flag).collect(),
            env: [(GARBAGE.to_owned(), text(self.garbage()))].into(),
            ..Overrides::default()
        }
    }

    fn flags(self, component: &str) -> Flags {
        match (self, component) {
            (Self::Home, apiserver::NAME) => &[
                // Upstream's 400 and 200 are for hundreds of nodes; each request takes memory.
                ("max-requests-inflight", "100"),
                ("max-mutating-requests-inflight", "50"),
                ("audit-log-maxsize", "10"),
                ("audit-log-maxbackup", "2"),
            ],
            (Self::Home, controller_manager::NAME) => &[
                // How many objects of a kind are worked on at once.
                ("concurrent-gc-syncs", "5"),
                ("concurrent-namespace-syncs", "2"),
                ("concurrent-serviceaccount-token-syncs", "2"),
            ],
            (Self::Home, etcd::NAME) => &[
                // The database is mapped into memory as far as it is used; so many changes are kept
                // there until they are in a snapshot.
                ("quota-backend-bytes", "536870912"),
                ("snapshot-count", "2500"),
            ],
            (Self::Default | Self::Home, _) => &[],
        }
    }
}
