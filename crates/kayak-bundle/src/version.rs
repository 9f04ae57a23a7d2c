//! Versions of components.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// A released version as Go writes it: `v1.36.3`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Version {
    /// Changes when much becomes incompatible.
    pub major: u64,
    /// Changes with features.
    pub minor: u64,
    /// Changes with fixes.
    pub patch: u64,
}

/// What is wrong with a text that should be a version.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a version like `v1.2.3`")]
pub struct NotAVersion(String);

impl Version {
    /// Returns the version in which a `go.mod` requires `module`.
    pub(crate) fn required(go_mod: &str, module: &str) -> Option<Self> {
        go_mod.lines().find_map(|line| {
            let mut words = line.split_whitespace().skip_while(|word| *word == "require");
            (words.next() == Some(module)).then(|| words.next()?.parse().ok())?
        })
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "v{}.{}.{}", self.major, self.minor, self.patch)
    }
}

impl FromStr for Version {
    type Err = NotAVersion;

    fn from_str(text: &str) -> Result<Self, NotAVersion> {
        let numbers: Option<Vec<u64>> = text
            .strip_prefix('v')
            .and_then(|text| text.split('.').map(|number| number.parse().ok()).collect());
        match numbers.as_deref() {
            Some(&[major, minor, patch]) => Ok(Self { major, minor, patch }),
            _ => Err(NotAVersion(text.to_owned())),
        }
    }
}

impl TryFrom<String> for Version {
    type Error = NotAVersion;

    fn try_from(text: String) -> Result<Self, NotAVersion> {
        text.parse()
    }
}

impl From<Version> for String {
    fn from(version: Version) -> Self {
        version.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GO_MOD: &str = "module kayak.local/components/example

go 1.26.0

require example.com/single v1.2.3

require (
\texample.com/other/v2 v2.10.0 // indirect
\texample.com/other v1.0.0-rc.1
)

replace example.com/replaced => example.com/other/v2 v2.11.0
";

    fn version(text: &str) -> Version {
        text.parse().unwrap()
    }

    #[test]
    fn the_version_is_the_required_one() {
        assert_eq!(Version::required(GO_MOD, "example.com/single"), Some(version("v1.2.3")));
        assert_eq!(Version::required(GO_MOD, "example.com/other/v2"), Some(version("v2.10.0")));
    }

    #[test]
    fn only_releases_have_a_version() {
        assert_eq!(Version::required(GO_MOD, "example.com/other"), None);
        assert_eq!(Version::required(GO_MOD, "example.com/replaced"), None);
        assert_eq!("1.2.3".parse::<Version>(), Err(NotAVersion("1.2.3".to_owned())));
    }

    #[test]
    fn versions_are_compared_by_number() {
        assert!(version("v1.9.9") < version("v1.36.3"));
    }
}
