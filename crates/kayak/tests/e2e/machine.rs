//! A machine of its own to try things on: Debian with systemd as its first process, in a container
//! that has a network without any way out.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

use kayak_engine::dirs::Dirs;
use serde_json::{Value, json};

use crate::cluster::{eventually, scratch, show, succeed};

/// What the machine has installed beside the essential packages.
const PACKAGES: &str = "systemd,systemd-sysv,procps";

const NAME: &str = "e2e-machine";

/// Where the machine has kayak's cache and state: both on one real file system, because nodes link
/// files of the one into the other, and run on an overlay, which cannot lie on another.
const DISK: &str = "/srv/kayak";

/// A machine that outlives its reboots, and ends with the scenario.
pub struct Machine {
    directory: PathBuf,
    runc: PathBuf,
    running: Option<Child>,
}

impl Machine {
    /// Makes a new machine with this kayak and its images, and boots it.
    pub fn new() -> Self {
        let directory = scratch().join("machine");
        let mut machine = Self { runc: runc(), running: None, directory };
        // What a killed run left.
        machine.end();
        let _ = fs::remove_dir_all(&machine.directory);
        fs::create_dir_all(machine.directory.join("root")).unwrap();
        succeed(Command::new("tar").arg("-C").arg(machine.root()).arg("-xf").arg(packed()));
        // It would change settings that are not the container's alone.
        std::os::unix::fs::symlink(
            "/dev/null",
            machine.root().join("etc/systemd/system/systemd-sysctl.service"),
        )
        .unwrap();
        fs::copy(env!("CARGO_BIN_EXE_kayak"), machine.root().join("usr/local/bin/kayak")).unwrap();
        machine.give_images();
        fs::write(machine.directory.join("config.json"), machine.config().to_string()).unwrap();
        machine.boot();
        machine
    }

    fn root(&self) -> PathBuf {
        self.directory.join("root")
    }

    /// Links the cache: it is only read, or added to.
    fn give_images(&self) {
        let cache = self.directory.join("disk/cache");
        fs::create_dir_all(&cache).unwrap();
        for part in ["bundle", "rootfs", "store"] {
            let copy = |how: &str| {
                let from = Dirs::from_env().cache.join(part);
                Command::new("cp").arg(how).arg(from).arg(&cache).stderr(Stdio::null()).status().unwrap()
            };
            // The checkout may be on another file system.
            assert!(copy("-al").success() || copy("-a").success(), "failed to copy the cache's {part}");
        }
    }

    fn config(&self) -> Value {
        let namespaces = ["pid", "ipc", "uts", "mount", "cgroup", "network"];
        let namespaces = namespaces.map(|kind| json!({ "type": kind }));
        let mount = |kind: &str, at: &str, options: &[&str]| json!({ "type": kind, "source": kind, "destination": at, "options": options });
        let bind = |from: &Path, at: &str| json!({ "type": "bind", "source": from, "destination": at, "options": ["rbind", "rw"] });
        json!({
            "ociVersion": "1.2.0",
            "hostname": "machine",
            "root": { "path": self.root() },
            "process": {
                "user": { "uid": 0, "gid": 0 },
                "cwd": "/",
                "args": ["/sbin/init", "--log-target=console"],
                // By this systemd knows that it is in a container.
                "env": ["container=kayak"],
                "capabilities": {
                    "bounding": CAPABILITIES, "effective": CAPABILITIES, "permitted": CAPABILITIES,
                },
            },
            "mounts": [
                mount("proc", "/proc", &[]),
                mount("tmpfs", "/dev", &["nosuid", "mode=755"]),
                mount("devpts", "/dev/pts", &["newinstance", "ptmxmode=0666", "mode=0620", "gid=5"]),
                mount("tmpfs", "/dev/shm", &["mode=1777"]),
                mount("sysfs", "/sys", &[]),
                mount("cgroup", "/sys/fs/cgroup", &["rw"]),
                mount("tmpfs", "/run", &["mode=755"]),
                mount("tmpfs", "/tmp", &["mode=1777"]),
                bind(Path::new("/dev/kmsg"), "/dev/kmsg"),
                bind(&self.directory.join("disk"), DISK),
            ],
            "linux": {
                "cgroupsPath": format!("/{NAME}"),
                "namespaces": namespaces,
                "resources": { "devices": [{ "allow": true, "access": "rwm" }] },
                // systemd raises the limits of open files, which are the whole machine's.
                "readonlyPaths": ["/proc/sys/fs"],
            },
        })
    }

    /// Switches it on, and waits until everything that starts at boot has started.
    pub fn boot(&mut self) {
        let console = File::options().create(true).append(true).open(self.directory.join("console.log"));
        let console = console.unwrap();
        // Nothing that is mounted for the machine is to be seen on this one.
        let mut command = Command::new("unshare");
        command.args(["--mount", "--propagation", "private"]).arg(&self.runc).arg("--root").arg(self.state());
        command.arg("run").arg("--bundle").arg(&self.directory).arg(NAME).stdin(Stdio::null());
        self.running = Some(command.stdout(console.try_clone().unwrap()).stderr(console).spawn().unwrap());
        // systemd listens a moment after it has begun.
        eventually("the machine's boot", || {
            let output = self.command(&["systemctl", "is-system-running", "--wait"]).output().unwrap();
            if output.stdout.is_empty() { Err(show(&output)) } else { Ok(()) }
        });
        let failed = self.run(&["systemctl", "list-units", "--failed", "--no-legend"]);
        assert_eq!(failed.trim(), "", "all units start: {}", self.console());
    }

    /// Switches it off and on again.
    pub fn reboot(&mut self) {
        // The machine ends before whoever asked for it is answered.
        let asked = self.command(&["systemctl", "reboot"]).output().unwrap();
        let ended = self.running.take().unwrap().wait().unwrap();
        assert!(!ended.success(), "a machine that reboots is killed by the kernel: {}", show(&asked));
        self.boot();
    }

    /// Runs a program there, which must succeed, and returns its output.
    pub fn run(&self, command: &[&str]) -> String {
        succeed(&mut self.command(command))
    }

    /// Runs kayak there, which must succeed.
    pub fn kayak(&self, arguments: &[&str]) -> String {
        self.run(&[&["kayak"], arguments].concat())
    }

    /// Runs a program there, whatever comes of it.
    pub fn try_run(&self, command: &[&str]) -> Output {
        self.command(command).output().unwrap()
    }

    /// Writes a file there.
    pub fn write(&self, path: &str, content: &str) {
        fs::write(self.root().join(path.trim_start_matches('/')), content).unwrap();
    }

    /// What was said at boot.
    pub fn console(&self) -> String {
        fs::read_to_string(self.directory.join("console.log")).unwrap_or_default()
    }

    fn command(&self, command: &[&str]) -> Command {
        let mut exec = Command::new(&self.runc);
        exec.arg("--root").arg(self.state()).args(["exec", "--cwd", "/"]);
        for variable in [
            "PATH=/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin".to_owned(),
            format!("KAYAK_STATE_DIR={DISK}/state"),
            format!("KAYAK_CACHE_DIR={DISK}/cache"),
        ] {
            exec.args(["--env", &variable]);
        }
        exec.arg(NAME).args(command).stdin(Stdio::null());
        exec
    }

    fn state(&self) -> PathBuf {
        self.directory.join("runc")
    }

    /// Ends whatever runs of it.
    fn end(&mut self) {
        let mut delete = Command::new(&self.runc);
        delete.arg("--root").arg(self.state()).args(["delete", "--force", NAME]);
        // There may be nothing to delete.
        let _ = delete.stderr(Stdio::null()).status();
        if let Some(mut running) = self.running.take() {
            let _ = running.wait();
        }
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        self.end();
    }
}

/// All but what restricted hosts do not have, and containers have no use for.
const CAPABILITIES: [&str; 27] = [
    "CAP_CHOWN",
    "CAP_DAC_OVERRIDE",
    "CAP_DAC_READ_SEARCH",
    "CAP_FOWNER",
    "CAP_FSETID",
    "CAP_KILL",
    "CAP_SETGID",
    "CAP_SETUID",
    "CAP_SETPCAP",
    "CAP_LINUX_IMMUTABLE",
    "CAP_NET_BIND_SERVICE",
    "CAP_NET_BROADCAST",
    "CAP_NET_ADMIN",
    "CAP_NET_RAW",
    "CAP_IPC_LOCK",
    "CAP_IPC_OWNER",
    "CAP_SYS_CHROOT",
    "CAP_SYS_PTRACE",
    "CAP_SYS_ADMIN",
    "CAP_SYS_BOOT",
    "CAP_SYS_NICE",
    "CAP_SYS_TTY_CONFIG",
    "CAP_MKNOD",
    "CAP_LEASE",
    "CAP_AUDIT_WRITE",
    "CAP_SETFCAP",
    "CAP_SYSLOG",
];

/// The machine's root file system, made once for a list of packages.
fn packed() -> PathBuf {
    let packed = scratch().join(format!("machine-{}.tar", PACKAGES.replace(',', "-")));
    if !packed.exists() {
        let partial = scratch().join("machine.partial.tar");
        let mut command = Command::new("mmdebstrap");
        command
            .args(["--quiet", "--variant=apt", &format!("--include={PACKAGES}"), "bookworm"])
            .arg(&partial);
        succeed(&mut command);
        fs::rename(&partial, &packed).unwrap();
    }
    packed
}

/// The node image's runc, which is static.
fn runc() -> PathBuf {
    let unpacked = Dirs::from_env().cache.join("rootfs");
    let mut entries = fs::read_dir(&unpacked).unwrap().flatten();
    let runc = entries.find_map(|entry| Some(entry.path().join("usr/local/bin/runc")).filter(|p| p.exists()));
    runc.unwrap_or_else(|| panic!("no node image is unpacked in {unpacked}"))
}
