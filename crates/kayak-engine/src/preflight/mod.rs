//! Looking at the machine that a cluster is to run on, for preflight: nothing is changed.

mod disk;
mod kernel;
mod listeners;
mod network;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Display;
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::time::SystemTime;

use camino::{Utf8Path, Utf8PathBuf};
use kayak_core::cluster::Cluster;
use kayak_core::plan::Fact;
use kayak_core::preflight::{Clock, Machine, Rights};
use rustix::fs::{Access, access};

pub use self::network::interfaces;
use crate::dirs::Dirs;
use crate::driver::local::{oci, paths};

/// Programs of the machine that the driver runs.
const PROGRAMS: [&str; 5] = ["chroot", "mount", "nsenter", "sh", "unshare"];

/// Where other Kubernetes keep things on a machine.
const KUBERNETES: [&str; 6] = [
    "/etc/kubernetes",
    "/etc/rancher",
    "/var/lib/k0s",
    "/var/lib/kubelet",
    "/var/lib/rancher",
    "/var/snap/microk8s",
];
/// What they run.
const KUBELETS: [&str; 5] = ["k0s", "k3s-server", "kubelet", "kubelite", "rke2"];

/// Who else keeps a clock, and how each is asked.
const CLOCK_KEEPERS: [(&str, &str); 2] = [("chronyd", "chronyc tracking"), ("ntpd", "ntpq -c rv")];

/// Tells whether this process runs as root.
pub fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// Looks at the machine; what belongs to the cluster of this name already is left out.
pub fn look_at_machine(cluster: &Cluster, dirs: &Dirs) -> Machine {
    let name = cluster.name();
    let mounts = fs::read_to_string("/proc/self/mountinfo");
    let state = disk::look(&dirs.state, &mounts);
    Machine {
        rights: rights(),
        missing_programs: missing_programs(),
        kernel: kernel::look(),
        cgroups: kernel::cgroups(&mounts),
        memory: kernel::memory(&mounts),
        limits: kernel::limits(),
        cache: disk::look(&dirs.cache, &mounts),
        state,
        named: named(cluster),
        network: network::look(name, dirs),
        clock: clock(&dirs.assets(name).join("tls")),
        kubernetes: other_kubernetes(),
    }
}

/// What was looked at, or why it was not seen.
fn fact<T, E: Display>(looked: Result<T, E>) -> Fact<T> {
    match looked {
        Ok(value) => Fact::Known(value),
        Err(error) => Fact::Unknown(error.to_string()),
    }
}

/// Reads a kernel setting.
fn setting(name: &str) -> io::Result<String> {
    Ok(fs::read_to_string(Utf8Path::new("/proc/sys").join(name))?.trim().to_owned())
}

/// Tells of the paths that a configuration names whether they are there.
fn named(cluster: &Cluster) -> BTreeMap<Utf8PathBuf, Fact<bool>> {
    let paths = cluster.config.machine_paths().map(|(path, _)| path);
    paths.map(|path| (path.clone(), fact(path.try_exists()))).collect()
}

fn rights() -> Rights {
    let status = fs::read_to_string("/proc/self/status");
    let own = |status: &String| {
        oci::capabilities(status, "CapEff:").into_iter().map(str::to_owned).collect::<BTreeSet<_>>()
    };
    let mut confined_by = Vec::new();
    if status.as_ref().is_ok_and(|status| status.lines().any(|line| line == "Seccomp:\t2")) {
        confined_by.push("a seccomp filter".to_owned());
    }
    // Absent, or without a meaning, where the kernel has no AppArmor.
    if let Ok(profile) = fs::read_to_string("/proc/self/attr/apparmor/current")
        && let Some(profile) = profile.trim().strip_suffix(" (enforce)")
    {
        confined_by.push(format!("AppArmor's profile `{profile}`"));
    }
    Rights {
        root: is_root(),
        initial_user_namespace: fact(fs::read_to_string("/proc/self/uid_map").map(|map| is_initial(&map))),
        capabilities: fact(status.as_ref().map(own)),
        confined_by,
    }
}

/// Only the first user namespace maps every user to itself.
fn is_initial(map: &str) -> bool {
    map.split_whitespace().eq(["0", "0", "4294967295"])
}

fn missing_programs() -> Vec<String> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let is_there = |program: &&str| {
        std::env::split_paths(&path).any(|directory| {
            let file = directory.join(program);
            file.is_file() && access(&file, Access::EXEC_OK).is_ok()
        })
    };
    PROGRAMS.iter().filter(|program| !is_there(program)).map(|&program| program.to_owned()).collect()
}

fn clock(keys: &Utf8Path) -> Clock {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    // systemd-timesyncd makes the file when it has found the time. What others found the kernel tells, by
    // a call (adjtimex) that takes unsafe code: no crate that kayak stands on wraps it.
    let timesyncd = Utf8Path::new("/run/systemd/timesync");
    Clock {
        now: i64::try_from(now.as_secs()).unwrap_or(i64::MAX),
        synchronised: if timesyncd.exists() {
            Fact::Known(timesyncd.join("synchronized").exists())
        } else {
            Fact::Unknown(nobody_tells())
        },
        newest: fact(newest(keys)),
    }
}

/// Says why it is not known whether the clock is synchronised, and how its owner finds out.
fn nobody_tells() -> String {
    let names = CLOCK_KEEPERS.map(|(name, _)| name);
    let keeper = running(&names)
        .into_iter()
        .find_map(|(name, _)| CLOCK_KEEPERS.into_iter().find(|(keeper, _)| *keeper == name));
    match keeper {
        Some((name, command)) => format!("{name} keeps it, and is asked by `{command}` alone"),
        None => "only systemd-timesyncd tells, and it does not run here".into(),
    }
}

/// Returns the latest time that a cluster's keys and certificates tell, and which of them does.
fn newest(keys: &Utf8Path) -> io::Result<Option<(String, i64)>> {
    let entries = match keys.read_dir_utf8() {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        entries => entries?,
    };
    let mut times = Vec::new();
    for entry in entries {
        let path = entry?.into_path();
        times.push((format!("`{path}`, which was written then"), path.metadata()?.mtime()));
        if path.extension() == Some("crt")
            && let Ok((_, pem)) = x509_parser::pem::parse_x509_pem(&fs::read(&path)?)
            && let Ok(certificate) = pem.parse_x509()
        {
            let from = certificate.validity().not_before.timestamp();
            times.push((format!("`{path}`, which is valid from then on"), from));
        }
    }
    Ok(times.into_iter().max_by_key(|(_, time)| *time))
}

fn other_kubernetes() -> Vec<String> {
    let places = KUBERNETES.into_iter().filter(|path| Utf8Path::new(path).exists()).map(str::to_owned);
    // Kayak's own lie in its control groups.
    let own = format!("/{}/", paths::CGROUP);
    let is_foreign = |directory: &Utf8PathBuf| {
        fs::read_to_string(directory.join("cgroup")).is_ok_and(|groups| !groups.contains(&own))
    };
    let foreign = running(&KUBELETS).into_iter().filter(|(_, directory)| is_foreign(directory));
    let foreign = foreign.map(|(name, directory)| {
        format!("the process {name} ({})", directory.file_name().unwrap_or_default())
    });
    places.chain(foreign).collect()
}

/// Finds the processes of these names, with their directories below `/proc`; one that ends meanwhile is none.
fn running(names: &[&str]) -> Vec<(String, Utf8PathBuf)> {
    let processes = Utf8Path::new("/proc").read_dir_utf8().into_iter().flatten().flatten();
    let found = processes.filter_map(|entry| {
        let name = fs::read_to_string(entry.path().join("comm")).ok()?.trim().to_owned();
        names.contains(&name.as_str()).then(|| (name, entry.into_path()))
    });
    found.collect()
}

/// Returns the mount that a path is on: type, options of mount and file system.
fn mount_of(table: &str, path: &Utf8Path) -> Option<(String, BTreeSet<String>)> {
    let covering = mounts(table).filter(|(point, ..)| path.starts_with(point));
    // Of two at the same place, the later one covers the earlier.
    covering.max_by_key(|(point, ..)| point.as_str().len()).map(|(_, kind, options)| (kind, options))
}

/// Parts the list of mounts: place, type, options.
fn mounts(table: &str) -> impl Iterator<Item = (Utf8PathBuf, String, BTreeSet<String>)> {
    table.lines().filter_map(|line| {
        let (fields, rest) = line.split_once(" - ")?;
        let mut fields = fields.split(' ').skip(4);
        // The kernel writes a few characters as octal numbers, blanks among them.
        let point = fields.next()?.replace("\\040", " ").replace("\\134", "\\");
        let mut rest = rest.split(' ');
        let (kind, options) = (rest.next()?, rest.nth(1).unwrap_or_default());
        let all = fields.next()?.split(',').chain(options.split(','));
        Some((point.into(), kind.to_owned(), all.map(str::to_owned).collect()))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const MOUNTS: &str = "\
27 1 254:0 / / rw,relatime - ext4 /dev/vda rw,discard
30 27 0:40 / /var/my\\040disk rw,noexec,nosuid shared:5 - xfs /dev/vdb ro
31 27 0:41 / /var/my\\040disk rw - tmpfs none rw,size=1k
";

    #[test]
    fn a_path_is_on_the_last_and_longest_mount_point() {
        let (kind, options) = mount_of(MOUNTS, "/var/my disk/state".into()).unwrap();
        assert_eq!((kind.as_str(), options.contains("noexec")), ("tmpfs", false));
        assert_eq!(mount_of(MOUNTS, "/var/other".into()).unwrap().0, "ext4");
        let first = MOUNTS.lines().take(2).collect::<Vec<_>>().join("\n");
        let (_, options) = mount_of(&first, "/var/my disk".into()).unwrap();
        assert!(options.contains("ro") && options.contains("nosuid"), "{options:?}");
    }

    #[test]
    fn another_user_namespace_maps_less() {
        assert!(is_initial("         0          0 4294967295\n"));
        assert!(!is_initial("         0       1000          1\n"));
    }

    #[test]
    fn the_latest_of_files_and_certificates_counts() {
        let scratch = tempfile::tempdir().unwrap();
        let keys = Utf8Path::from_path(scratch.path()).unwrap();
        assert_eq!(newest(&keys.join("absent")).unwrap(), None);
        let mut params = rcgen::CertificateParams::new(Vec::new()).unwrap();
        params.not_before = time::OffsetDateTime::from_unix_timestamp(4_000_000_000).unwrap();
        params.not_after = params.not_before + time::Duration::days(1);
        let certificate = params.self_signed(&rcgen::KeyPair::generate().unwrap()).unwrap();
        fs::write(keys.join("ca.crt"), certificate.pem()).unwrap();
        fs::write(keys.join("ca.key"), "no certificate").unwrap();
        let (what, time) = newest(keys).unwrap().unwrap();
        assert_eq!(time, 4_000_000_000);
        assert!(what.contains("ca.crt"), "{what}");
    }
}
