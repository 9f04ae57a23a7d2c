//! Kernel settings.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// Why a kernel setting is not as wished.
#[derive(Debug, thiserror::Error)]
#[error("failed to set `{name}` to `{value}`")]
pub(crate) struct SysctlsError {
    name: String,
    value: String,
    #[source]
    source: io::Error,
}

pub(super) fn prepare(wanted: &BTreeMap<String, String>) -> Result<(), SysctlsError> {
    for (name, value) in wanted {
        set(&path(name), value).map_err(|source| SysctlsError {
            name: name.clone(),
            value: value.clone(),
            source,
        })?;
    }
    Ok(())
}

/// Sets it unless it has the value, which may have been given by the machine's owner for a
/// container that may not set it itself.
fn set(path: &Path, value: &str) -> io::Result<()> {
    let current = fs::read_to_string(path)?;
    if current.split_whitespace().eq(value.split_whitespace()) {
        return Ok(());
    }
    fs::write(path, value)
}

/// An interface's name may hold dots: as with sysctl(8), such a setting is written with slashes.
fn path(name: &str) -> PathBuf {
    let relative = if name.contains('/') { name.to_owned() } else { name.replace('.', "/") };
    Path::new("/proc/sys").join(relative)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dots_and_slashes_both_name_a_setting() {
        assert_eq!(path("net.ipv4.ip_forward"), Path::new("/proc/sys/net/ipv4/ip_forward"));
        assert_eq!(
            path("net/ipv4/conf/eth0.5/forwarding"),
            Path::new("/proc/sys/net/ipv4/conf/eth0.5/forwarding")
        );
    }

    #[test]
    fn a_value_that_is_there_needs_no_right_to_write() {
        let ranges = fs::read_to_string("/proc/sys/kernel/ostype").unwrap();
        set(Path::new("/proc/sys/kernel/ostype"), ranges.trim()).unwrap();
        set(Path::new("/proc/sys/kernel/ostype"), "other").unwrap_err();
    }
}
