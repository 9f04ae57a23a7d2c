//! How far machines may differ: in their version of Kubernetes, and in their clocks.

/// Seconds by which two machines' clocks may differ.
pub const CLOCK_SKEW: i64 = 60;
/// By how many minor versions a kubelet may be older than the API server.
const OLDER: u32 = 3;

/// Why a kubelet cannot join an API server.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Skew {
    /// Upstream supports no kubelet that is newer.
    #[error("this kayak's kubelet is {kubelet}, which is newer than the cluster's Kubernetes {api}")]
    Newer {
        /// The kubelet's version.
        kubelet: String,
        /// The API server's.
        api: String,
    },
    /// Nor one that is much older.
    #[error(
        "this kayak's kubelet is {kubelet}, more than three minor versions older than the cluster's Kubernetes {api}"
    )]
    Older {
        /// The kubelet's version.
        kubelet: String,
        /// The API server's.
        api: String,
    },
    /// Nothing is known of what cannot be read.
    #[error("`{0}` is no version of Kubernetes")]
    Unreadable(String),
}

/// Says why a kubelet of one version cannot join an API server of another.
pub fn skew(kubelet: &str, api: &str) -> Result<(), Skew> {
    let read = |text: &str| minor(text).ok_or_else(|| Skew::Unreadable(text.into()));
    let (own, theirs) = (read(kubelet)?, read(api)?);
    let (kubelet, api) = (kubelet.to_owned(), api.to_owned());
    if own > theirs {
        Err(Skew::Newer { kubelet, api })
    } else if own.0 != theirs.0 || theirs.1 - own.1 > OLDER {
        Err(Skew::Older { kubelet, api })
    } else {
        Ok(())
    }
}

/// Major and minor version of `v1.36.3`.
fn minor(version: &str) -> Option<(u32, u32)> {
    let mut parts = version.strip_prefix('v')?.split('.');
    Some((parts.next()?.parse().ok()?, parts.next()?.parse().ok()?))
}

/// Says by how many seconds this machine's clock is ahead of another's, if that is too much.
pub fn clocks_differ(own: i64, theirs: i64) -> Option<i64> {
    Some(own - theirs).filter(|ahead| ahead.abs() > CLOCK_SKEW)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kubelet_is_as_new_as_the_api_or_up_to_three_versions_older() {
        for fits in ["v1.36.9", "v1.36.0", "v1.35.1", "v1.33.0"] {
            assert_eq!(skew(fits, "v1.36.3"), Ok(()), "{fits}");
        }
        assert!(matches!(skew("v1.37.0", "v1.36.3"), Err(Skew::Newer { .. })));
        assert!(matches!(skew("v2.0.0", "v1.36.3"), Err(Skew::Newer { .. })));
        assert!(matches!(skew("v1.32.9", "v1.36.3"), Err(Skew::Older { .. })));
        assert!(matches!(skew("v1.36.3", "v2.36.3"), Err(Skew::Older { .. })));
        assert!(matches!(skew("v1.36.3", "1.36"), Err(Skew::Unreadable(_))));
    }

    #[test]
    fn a_minute_is_the_most_that_clocks_may_differ() {
        assert_eq!(clocks_differ(100, 160), None);
        assert_eq!(clocks_differ(100, 161), Some(-61));
        assert_eq!(clocks_differ(161, 100), Some(61));
    }
}
