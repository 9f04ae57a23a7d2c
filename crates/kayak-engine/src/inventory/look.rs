//! Looking around: one function a kind of thing.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::{self, ErrorKind};
use std::net::{Ipv4Addr, Ipv6Addr};

use camino::{Utf8Path, Utf8PathBuf};

use super::{InventoryError, Kind};
use crate::driver::local::cgroup::Hierarchies;
use crate::driver::local::{Paths, disk, network, paths, settings};
use crate::netlink::{Netlink, attributes, text};

/// Where a program could leave files, and how many levels of each are listed.
pub const PLACES: [(&str, usize); 6] =
    [("/etc", 3), ("/usr", 2), ("/usr/local", 2), ("/opt", 2), ("/var", 2), ("/run", 2)];

/// How many levels of control groups are listed below each hierarchy's root: cluster, node, and one.
const GROUPS: usize = 4;

// linux/rtnetlink.h, linux/if_addr.h: a message begins with a structure of a fixed length, attributes
// follow.
const GET_ADDRESS: u16 = 22;
const ADDRESS: usize = 8;
const INET: u8 = 2;
const LOCAL: u16 = 2;
const LABEL: u16 = 3;

type Lists = BTreeMap<Kind, BTreeSet<String>>;

pub(super) fn around(paths: &Paths) -> Result<Lists, InventoryError> {
    let processes = processes()?;
    Ok([
        (Kind::Process, of_kayak(&processes)),
        (Kind::Namespace, namespaces(&processes)),
        (Kind::Mount, mounts()?),
        (Kind::Link, names("/sys/class/net".into())?.into_iter().collect()),
        (Kind::Address, addresses().map_err(InventoryError::Addresses)?),
        (Kind::Table, network::tables().map_err(InventoryError::Tables)?.into_iter().collect()),
        (Kind::Group, groups()?),
        (Kind::Route, routes()?),
        (Kind::Setting, kernel_settings()?),
        (Kind::File, files(paths)?),
    ]
    .into())
}

/// The kernel's directories of all processes.
fn processes() -> Result<Vec<Utf8PathBuf>, InventoryError> {
    let proc = Utf8Path::new("/proc");
    let numbers = names(proc)?.into_iter().filter(|name| name.bytes().all(|byte| byte.is_ascii_digit()));
    Ok(numbers.map(|number| proc.join(number)).collect())
}

/// Those in a control group of kayak's; one that ends meanwhile is none.
fn of_kayak(processes: &[Utf8PathBuf]) -> BTreeSet<String> {
    let prefix = format!("/{}/", paths::CGROUP);
    let kayaks = processes.iter().filter_map(|process| {
        let groups = fs::read_to_string(process.join("cgroup")).ok()?;
        // See cgroups(7): hierarchy, controllers and path.
        let group = groups.lines().filter_map(|line| line.splitn(3, ':').nth(2));
        // A group that is removed has only the dead in it, until their parent fetches them.
        let runs = |group: &&str| group.starts_with(&prefix) && !group.ends_with(" (deleted)");
        let group = group.into_iter().find(runs)?;
        let name = fs::read_to_string(process.join("comm")).ok()?;
        Some(format!("{group}: {} {}", process.file_name()?, name.trim_end()))
    });
    kayaks.collect()
}

fn namespaces(processes: &[Utf8PathBuf]) -> BTreeSet<String> {
    let links = processes.iter().filter_map(|process| process.join("ns/net").read_link_utf8().ok());
    links.map(Utf8PathBuf::into_string).collect()
}

fn addresses() -> io::Result<BTreeSet<String>> {
    let mut wanted = [0; ADDRESS];
    wanted[0] = INET;
    let messages = Netlink::open(None)?.list(GET_ADDRESS, &wanted)?;
    Ok(messages.iter().filter_map(|(_, body)| address(body)).collect())
}

fn address(body: &[u8]) -> Option<String> {
    let own = |wanted| attributes(body.get(ADDRESS..)?).find(|(kind, _)| *kind == wanted);
    let (_, local) = own(LOCAL)?;
    let (_, label) = own(LABEL)?;
    let local = Ipv4Addr::from(<[u8; 4]>::try_from(local).ok()?);
    Some(format!("{local}/{} dev {}", body.get(1)?, text(label)))
}

fn mounts() -> Result<BTreeSet<String>, InventoryError> {
    let points = disk::mounted().map_err(InventoryError::Groups)?;
    Ok(points.into_iter().map(Utf8PathBuf::into_string).collect())
}

fn groups() -> Result<BTreeSet<String>, InventoryError> {
    let mut found = BTreeSet::new();
    for root in Hierarchies::find().map_err(InventoryError::Groups)?.roots() {
        directories(root, GROUPS, &mut found)?;
    }
    Ok(found)
}

fn directories(path: &Utf8Path, levels: usize, found: &mut BTreeSet<String>) -> Result<(), InventoryError> {
    for name in names(path)? {
        let path = path.join(name);
        // In a file system of control groups nothing but groups are directories.
        if levels > 0 && path.is_dir() {
            directories(&path, levels - 1, found)?;
            found.insert(path.into_string());
        }
    }
    Ok(())
}

pub(super) fn routes() -> Result<BTreeSet<String>, InventoryError> {
    let read = |path: &str| match fs::read_to_string(path) {
        // A machine may be without IPv6.
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(String::new()),
        read => read.map_err(|source| InventoryError::Read { path: path.into(), source }),
    };
    let (four, six) = (read("/proc/net/route")?, read("/proc/net/ipv6_route")?);
    Ok(four.lines().filter_map(route).chain(six.lines().filter_map(route6)).collect())
}

/// Reads a line of `/proc/net/route`: interface, destination, gateway, flags, references, use,
/// metric, mask.
fn route(line: &str) -> Option<String> {
    let fields: Vec<_> = line.split_whitespace().collect();
    let address = |text: &str| Some(Ipv4Addr::from(u32::from_str_radix(text, 16).ok()?.to_ne_bytes()));
    let mask = u32::from_str_radix(fields.get(7)?, 16).ok()?.count_ones();
    let metric: u32 = fields.get(6)?.parse().ok()?;
    Some(format!("{}/{mask} dev {} metric {metric}", address(fields.get(1)?)?, fields[0]))
}

/// Reads a line of `/proc/net/ipv6_route`: destination, its length, source, its length, next hop,
/// metric, references, use, flags, interface.
fn route6(line: &str) -> Option<String> {
    let fields: Vec<_> = line.split_whitespace().collect();
    let address = Ipv6Addr::from(u128::from_str_radix(fields.first()?, 16).ok()?);
    let length = u8::from_str_radix(fields.get(1)?, 16).ok()?;
    let metric = u32::from_str_radix(fields.get(5)?, 16).ok()?;
    Some(format!("{address}/{length} dev {} metric {metric}", fields.get(9)?))
}

fn kernel_settings() -> Result<BTreeSet<String>, InventoryError> {
    let values = settings::values().map_err(InventoryError::Settings)?;
    Ok(values.into_iter().map(|(name, value)| format!("{name} {value}")).collect())
}

fn files(paths: &Paths) -> Result<BTreeSet<String>, InventoryError> {
    let mut found = BTreeSet::new();
    for (place, levels) in PLACES {
        list(place.into(), levels, &[&paths.cache, &paths.state], &mut found)?;
    }
    list(&paths.state, 1, &[], &mut found)?;
    Ok(found)
}

fn list(
    path: &Utf8Path,
    levels: usize,
    without: &[&Utf8PathBuf],
    found: &mut BTreeSet<String>,
) -> Result<(), InventoryError> {
    let entries = match path.read_dir_utf8() {
        Err(error) if is_gone(&error) => return Ok(()),
        read => read.map_err(|source| InventoryError::Read { path: path.to_owned(), source })?,
    };
    // A name that is no text is none of kayak's.
    for entry in entries.flatten().filter(|entry| !without.iter().any(|path| *path == entry.path())) {
        if levels > 1 && entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            list(entry.path(), levels - 1, without, found)?;
        }
        found.insert(entry.into_path().into_string());
    }
    Ok(())
}

fn names(path: &Utf8Path) -> Result<Vec<String>, InventoryError> {
    let read = path.read_dir_utf8();
    match read.and_then(|entries| entries.map(|entry| Ok(entry?.file_name().to_owned())).collect()) {
        Err(error) if is_gone(&error) => Ok(Vec::new()),
        read => read.map_err(|source| InventoryError::Read { path: path.to_owned(), source }),
    }
}

/// Whatever is listed may end meanwhile: a directory of a process's says so in its own way.
fn is_gone(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory)
        || rustix::io::Errno::from_io_error(error) == Some(rustix::io::Errno::NODEV)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn routes_are_read_as_the_kernel_writes_them() {
        let line = "*\t0000F40A\t00000000\t0201\t0\t0\t4185504951\t0000FFFF\t0\t0\t0";
        assert_eq!(route(line).as_deref(), Some("10.244.0.0/16 dev * metric 4185504951"));
        assert_eq!(route("Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask"), None);
        let line = "fd000244000000000000000000000000 38 00000000000000000000000000000000 00 \
                    00000000000000000000000000000000 f97ae6c7 00000001 00000000 00200200       lo";
        assert_eq!(route6(line).as_deref(), Some("fd00:244::/56 dev lo metric 4185581255"));
    }
}
