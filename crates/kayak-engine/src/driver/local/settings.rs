//! Settings of the machine that clusters change: remembered before, and put back when the last
//! cluster that changes them is gone.

use std::collections::BTreeMap;

use camino::{Utf8Path, Utf8PathBuf};
use kayak_core::chain::chain;
use rustix::fs::FlockOperation;

use super::disk;
use super::error::LocalError;

/// Where the kernel has them.
const ROOT: &str = "/proc/sys";

/// What every kubelet sets for itself, in a container too, since these are not a namespace's:
/// `setupKernelTunables` of its container manager.
const KUBELET: &[&str] = &[
    "vm/overcommit_memory",
    "vm/panic_on_oom",
    "kernel/panic",
    "kernel/panic_on_oops",
    "kernel/keys/root_maxkeys",
    "kernel/keys/root_maxbytes",
];

/// Whether the machine forwards packets.
const FORWARDING: &[&str] = &["net/ipv4/ip_forward"];

/// Where IPv6 has settings, some for every link.
const LINKS: &str = "net/ipv6/conf";
/// Whether the machine forwards packets of IPv6. To set it sets the same of every link too.
const FORWARDING_SIX: &str = "net/ipv6/conf/all/forwarding";

/// How many watches on files root may hold, all nodes of the machine together: kubelet, containerd and the
/// components take about twenty a node, and the usual limit is 128.
const WATCHES: &[&str] = &["fs/inotify/max_user_instances"];
const ENOUGH_WATCHES: u64 = 8192;

/// What becomes of settings while a cluster needs them.
#[derive(Debug, Clone, Copy)]
enum Wish {
    /// Its nodes set them.
    Theirs,
    /// They are set to this.
    Exactly(&'static str),
    /// They are raised to this.
    AtLeast(u64),
    /// Where they are the first they become the second.
    Instead(&'static str, &'static str),
}

/// Returns the settings that are put back when this cluster is gone, and what they were before:
/// none that another cluster changes too.
pub(crate) fn lent(run: &Utf8Path, cluster: &str) -> Result<BTreeMap<String, String>, LocalError> {
    let mut lent = BTreeMap::new();
    for settings in Settings::all(run)? {
        if disk::names(&settings.needed_by(""))? == [cluster] {
            for (name, _) in &settings.wishes {
                let before = disk::read(&settings.before(name))?;
                lent.extend(before.map(|before| (name.clone(), text(&before))));
            }
        }
    }
    Ok(lent)
}

/// Returns the settings that clusters change, as they are.
pub(crate) fn values() -> Result<BTreeMap<String, String>, LocalError> {
    let mut values = BTreeMap::new();
    for (name, _) in Settings::all("".into())?.into_iter().flat_map(|settings| settings.wishes) {
        let value = disk::read(&Utf8Path::new(ROOT).join(&name))?;
        values.extend(value.map(|value| (name, text(&value))));
    }
    Ok(values)
}

fn text(value: &[u8]) -> String {
    String::from_utf8_lossy(value.trim_ascii()).into_owned()
}

/// Settings that are changed and put back together. Who changes them, and what they were before,
/// are files in a directory that, like the settings, does not outlive the machine's restart.
#[derive(Debug, Clone)]
pub(crate) struct Settings {
    directory: Utf8PathBuf,
    root: Utf8PathBuf,
    /// In the order in which they are changed; they are put back in the other.
    wishes: Vec<(String, Wish)>,
}

impl Settings {
    /// Those that nodes change.
    pub(crate) fn of_kubelet(run: &Utf8Path) -> Self {
        // No cluster's name begins with a dot.
        Self::new(run.join(".kubelet"), KUBELET, Wish::Theirs)
    }

    /// The one that is switched on for clusters with egress.
    pub(crate) fn forwarding(run: &Utf8Path) -> Self {
        Self::new(run.join(".forwarding"), FORWARDING, Wish::Exactly("1"))
    }

    /// The same for IPv6. A machine that forwards takes no more router's word for its own way out, and forgets
    /// what it has been told, unless a link that listened to routers is told to go on.
    pub(crate) fn forwarding_six(run: &Utf8Path) -> Result<Self, LocalError> {
        let directory = run.join(".forwarding6");
        Ok(Self { wishes: forwarding_six(ROOT.into())?, ..Self::new(directory, &[], Wish::Theirs) })
    }

    fn all(run: &Utf8Path) -> Result<[Self; 4], LocalError> {
        Ok([Self::of_kubelet(run), Self::watches(run), Self::forwarding(run), Self::forwarding_six(run)?])
    }

    fn new(directory: Utf8PathBuf, names: &[&str], wish: Wish) -> Self {
        let wishes = names.iter().map(|name| ((*name).to_owned(), wish)).collect();
        Self { directory, root: ROOT.into(), wishes }
    }

    /// The limit that every cluster shares with the machine's root.
    pub(crate) fn watches(run: &Utf8Path) -> Self {
        Self::new(run.join(".watches"), WATCHES, Wish::AtLeast(ENOUGH_WATCHES))
    }

    /// Remembers the settings before a cluster changes them.
    pub(crate) fn need(&self, cluster: &str) -> Result<(), LocalError> {
        disk::create_directory(&self.needed_by(""), 0o755)?;
        let _lock = self.lock()?;
        for (name, _) in &self.wishes {
            // Not every kernel has all of them.
            if disk::read(&self.before(name))?.is_none()
                && let Some(now) = disk::read(&self.root.join(name))?
            {
                disk::write(&self.before(name), &now)?;
            }
        }
        disk::write(&self.needed_by(cluster), b"")?;
        self.wishes.iter().try_for_each(|(name, wish)| match *wish {
            Wish::Theirs => Ok(()),
            Wish::Exactly(value) => self.set(name, value.as_bytes()),
            Wish::Instead(one, other) => match disk::read(&self.root.join(name))? {
                Some(now) if text(&now) == one => self.set(name, other.as_bytes()),
                _ => Ok(()),
            },
            Wish::AtLeast(least) => {
                let now = disk::read(&self.root.join(name))?.and_then(|now| text(&now).parse::<u64>().ok());
                // A machine that does not let it be raised has room for some nodes.
                if now.is_some_and(|now| now < least)
                    && let Err(error) = self.set(name, least.to_string().as_bytes())
                {
                    tracing::warn!("`{name}` stays as it is: {}", chain(&error));
                }
                Ok(())
            }
        })
    }

    /// Puts the settings back if no other cluster changes them.
    pub(crate) fn release(&self, cluster: &str) -> Result<(), LocalError> {
        if disk::present(self.directory.metadata()).map_err(LocalError::read(&self.directory))?.is_none() {
            return Ok(());
        }
        let _lock = self.lock()?;
        disk::remove(&self.needed_by(cluster))?;
        if !disk::names(&self.needed_by(""))?.is_empty() {
            return Ok(());
        }
        for (name, _) in self.wishes.iter().rev() {
            // A link's settings go with it.
            let there = disk::read(&self.root.join(name))?.is_some();
            if let Some(before) = disk::read(&self.before(name))?.filter(|_| there) {
                self.set(name, &before)?;
            }
        }
        disk::remove(&self.directory)
    }

    fn set(&self, name: &str, value: &[u8]) -> Result<(), LocalError> {
        let path = self.root.join(name);
        let now = std::fs::read(&path).map_err(LocalError::read(&path))?;
        if now.trim_ascii() == value.trim_ascii() {
            return Ok(());
        }
        // In place: it is no file that could be replaced.
        std::fs::write(&path, value).map_err(LocalError::write(&path))
    }

    fn before(&self, name: &str) -> Utf8PathBuf {
        self.directory.join(name.replace('/', "."))
    }

    fn needed_by(&self, cluster: &str) -> Utf8PathBuf {
        self.directory.join("clusters").join(cluster)
    }

    /// Keeps other runs of kayak away, until the file is closed.
    fn lock(&self) -> Result<std::fs::File, LocalError> {
        let failed = |source| LocalError::Lock { path: self.directory.clone(), source };
        let directory = std::fs::File::open(&self.directory).map_err(failed)?;
        rustix::fs::flock(&directory, FlockOperation::LockExclusive).map_err(|error| failed(error.into()))?;
        Ok(directory)
    }
}

/// What becomes of the settings of IPv6, those of the links there are now among them.
fn forwarding_six(root: &Utf8Path) -> Result<Vec<(String, Wish)>, LocalError> {
    let links = disk::names(&root.join(LINKS))?;
    let links = || links.iter().filter(|link| *link != "all" && *link != "default");
    let listening = links().map(|link| (format!("{LINKS}/{link}/accept_ra"), Wish::Instead("1", "2")));
    let each = links().map(|link| (format!("{LINKS}/{link}/forwarding"), Wish::Theirs));
    let default = (format!("{LINKS}/default/forwarding"), Wish::Theirs);
    let all = (FORWARDING_SIX.to_owned(), Wish::Exactly("1"));
    Ok(listening.chain(each).chain([default, all]).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Settings in a scratch directory, all of them 0 at first.
    fn machine(scratch: &tempfile::TempDir, of: fn(&Utf8Path) -> Settings) -> Settings {
        let scratch = Utf8Path::from_path(scratch.path()).unwrap();
        let machine = Settings { root: scratch.join("sys"), ..of(scratch) };
        for (name, _) in &machine.wishes {
            let path = machine.root.join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, "0\n").unwrap();
        }
        machine
    }

    fn values(machine: &Settings) -> Vec<String> {
        let paths = machine.wishes.iter().map(|(name, _)| machine.root.join(name));
        paths.filter_map(|path| std::fs::read_to_string(path).ok()).collect()
    }

    #[test]
    fn the_last_cluster_switches_forwarding_back() {
        let scratch = tempfile::tempdir().unwrap();
        let machine = machine(&scratch, Settings::forwarding);
        machine.need("one").unwrap();
        machine.need("one").unwrap();
        machine.need("two").unwrap();
        assert_eq!(values(&machine), ["1"]);
        machine.release("one").unwrap();
        assert_eq!(values(&machine), ["1"]);
        machine.release("two").unwrap();
        assert_eq!(values(&machine), ["0\n"]);
        machine.release("two").unwrap();
        assert!(!machine.directory.exists());
    }

    /// What the kernel does: the setting of all is written to every link.
    #[test]
    fn links_go_on_listening_to_routers_while_the_machine_forwards() {
        let scratch = tempfile::tempdir().unwrap();
        let run = Utf8Path::from_path(scratch.path()).unwrap();
        let root = run.join("sys");
        let conf = root.join(LINKS);
        for (name, value) in [
            ("all/forwarding", "0"),
            ("default/forwarding", "0"),
            ("default/accept_ra", "1"),
            ("eth0/forwarding", "0"),
            ("eth0/accept_ra", "1"),
            ("tun0/forwarding", "1"),
            ("tun0/accept_ra", "0"),
        ] {
            let path = conf.join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, format!("{value}\n")).unwrap();
        }
        let read = |name: &str| std::fs::read_to_string(conf.join(name)).unwrap().trim().to_owned();
        let machine = || Settings {
            directory: run.join("lent"),
            root: root.clone(),
            wishes: forwarding_six(&root).unwrap(),
        };
        machine().need("one").unwrap();
        assert_eq!(
            ["all/forwarding", "eth0/accept_ra", "tun0/accept_ra", "default/accept_ra"].map(read),
            ["1", "2", "0", "1"]
        );
        for link in ["default", "eth0", "tun0"] {
            std::fs::write(conf.join(link).join("forwarding"), "1\n").unwrap();
        }
        // Links come and go meanwhile.
        std::fs::create_dir_all(conf.join("kayak-one")).unwrap();
        std::fs::write(conf.join("kayak-one/accept_ra"), "1\n").unwrap();
        machine().release("one").unwrap();
        let forwarding = ["all", "default", "eth0", "tun0"].map(|link| read(&format!("{link}/forwarding")));
        assert_eq!(forwarding, ["0", "0", "0", "1"]);
        assert_eq!(["eth0/accept_ra", "tun0/accept_ra", "kayak-one/accept_ra"].map(read), ["1", "0", "1"]);
        assert!(!machine().directory.exists());
    }

    #[test]
    fn a_limit_is_raised_and_never_lowered() {
        let scratch = tempfile::tempdir().unwrap();
        let machine = machine(&scratch, Settings::watches);
        machine.need("one").unwrap();
        assert_eq!(values(&machine), ["8192"]);
        machine.release("one").unwrap();
        assert_eq!(values(&machine), ["0\n"]);
        std::fs::write(machine.root.join(WATCHES[0]), "100000\n").unwrap();
        machine.need("one").unwrap();
        assert_eq!(values(&machine), ["100000\n"]);
    }

    #[test]
    fn what_the_last_cluster_has_to_put_back_is_known() {
        let scratch = tempfile::tempdir().unwrap();
        let machine = machine(&scratch, Settings::forwarding);
        let run = Utf8Path::from_path(scratch.path()).unwrap();
        machine.need("one").unwrap();
        assert_eq!(lent(run, "one").unwrap(), [("net/ipv4/ip_forward".into(), "0".into())].into());
        assert!(lent(run, "two").unwrap().is_empty());
        machine.need("two").unwrap();
        assert!(lent(run, "one").unwrap().is_empty(), "it stays for the other");
    }

    #[test]
    fn what_kubelets_change_is_put_back() {
        let scratch = tempfile::tempdir().unwrap();
        let machine = machine(&scratch, Settings::of_kubelet);
        let path = |name: &str| machine.root.join(name);
        std::fs::remove_file(path("vm/panic_on_oom")).unwrap();
        machine.need("one").unwrap();
        assert_eq!(values(&machine), ["0\n"; 5]);
        for name in ["vm/overcommit_memory", "kernel/panic", "kernel/panic_on_oops"] {
            std::fs::write(path(name), "10\n").unwrap();
        }
        // A second cluster finds them changed.
        machine.need("two").unwrap();
        machine.release("one").unwrap();
        assert_eq!(std::fs::read(path("kernel/panic")).unwrap(), b"10\n");
        machine.release("two").unwrap();
        assert_eq!(values(&machine), ["0\n"; 5]);
        assert!(!path("vm/panic_on_oom").exists());
        assert!(!machine.directory.exists());
    }
}
