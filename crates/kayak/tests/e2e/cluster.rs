//! The cluster that scenarios share, driven as a user drives it: through the binary.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use kayak_core::node::Status;
use rustix::process::Pid;

use crate::space::Space;

const KAYAK: &str = env!("CARGO_BIN_EXE_kayak");

/// A cluster of the tests, with ranges of its own and no way out of the machine.
pub struct Cluster {
    name: String,
    config: PathBuf,
    /// The network that kayak is run on, if that is not this process's own.
    network: Option<String>,
    /// Its state directory, if that is not the tests' usual one.
    state: Option<PathBuf>,
}

/// How long something that should happen soon may take on a loaded machine.
pub const PATIENCE: Duration = Duration::from_secs(90);

impl Cluster {
    /// Describes a cluster; `index` keeps its ranges apart from others'. Extra settings are YAML.
    pub fn new(name: &str, index: u8, extra: &str) -> Self {
        let directory = scratch();
        let config = directory.join(format!("{name}.yaml"));
        let text = format!(
            "name: {name}\nnetwork:\n  egress: false\n  nodes: 10.253.{index}.0/24\n  pods: 10.{}.0.0/16\n  services: 10.{}.0.0/16\n{extra}",
            200 + index,
            100 + index
        );
        std::fs::write(&config, text).unwrap();
        Self { name: name.into(), config, network: None, state: None }
    }

    /// Describes a cluster by the whole text of its configuration.
    pub fn written(name: &str, text: &str) -> Self {
        let config = scratch().join(format!("{name}.yaml"));
        std::fs::write(&config, text).unwrap();
        Self { name: name.into(), config, network: None, state: None }
    }

    /// Makes it a cluster of another machine, as far as the network goes.
    pub fn on(self, machine: &Space) -> Self {
        Self { network: Some(machine.path()), ..self }
    }

    /// Keeps its state apart, as another machine does.
    pub fn kept_in(self, state: PathBuf) -> Self {
        Self { state: Some(state), ..self }
    }

    /// Where the second machine keeps its state.
    pub fn guest_state() -> PathBuf {
        scratch().join("guest-state")
    }

    /// Removes what a killed run has left.
    pub fn remove_leftovers() {
        crate::inventory::remove_leftovers();
        let shared = ["e2e", "e2e-fleet", "e2e-gw", "e2e-own-net", "e2e-join"];
        let alone = [
            "e2e-assets",
            "e2e-cold",
            "e2e-cut",
            "e2e-left",
            "e2e-home",
            "e2e-own",
            "e2e-settings",
            "e2e-vip",
        ];
        let outside = ["e2e-six", "e2e-both", "e2e-six-first", "e2e-registry"];
        for name in shared.into_iter().chain(alone).chain(outside) {
            let output = kayak(&["--cluster", name, "down", "--yes"]).output().unwrap();
            assert!(output.status.success(), "{}", show(&output));
        }
        let mut guest = kayak(&["--cluster", "e2e-guest", "down", "--yes"]);
        succeed(guest.env("KAYAK_STATE_DIR", Self::guest_state()));
    }

    /// Where the configuration is.
    pub fn config(&self) -> &str {
        self.config.to_str().unwrap()
    }

    /// A command of kayak about this cluster.
    pub fn command(&self, arguments: &[&str]) -> Command {
        let arguments = [&["--cluster", &self.name], arguments].concat();
        let mut command = match &self.network {
            None => kayak(&arguments),
            Some(network) => {
                let mut command = Command::new("nsenter");
                configure(command.arg(format!("--net={network}")).arg(KAYAK).args(&arguments));
                command
            }
        };
        if let Some(state) = &self.state {
            command.env("KAYAK_STATE_DIR", state);
        }
        command
    }

    /// Runs such a command, which must succeed, and returns its standard output.
    pub fn kayak(&self, arguments: &[&str]) -> String {
        succeed(&mut self.command(arguments))
    }

    /// Brings the cluster up, with further flags.
    pub fn up(&self, flags: &[&str]) -> String {
        self.kayak(&[&["up", "--config", self.config()], flags].concat())
    }

    /// Runs kubectl, which must succeed, and returns its standard output.
    pub fn kubectl(&self, arguments: &[&str]) -> String {
        self.kayak(&[&["kubectl"], arguments].concat())
    }

    /// Runs kubectl, whatever comes of it.
    pub fn try_kubectl(&self, arguments: &[&str]) -> Output {
        self.command(&[&["kubectl"], arguments].concat()).output().unwrap()
    }

    /// Gives a manifest to the cluster.
    pub fn apply(&self, manifest: &str) {
        let path = scratch().join(format!("{}-manifest.yaml", self.name));
        std::fs::write(&path, manifest).unwrap();
        self.kubectl(&["apply", "-f", path.to_str().unwrap()]);
    }

    /// Runs a command in the first node, the only one as a rule.
    pub fn in_node(&self, arguments: &[&str]) -> String {
        self.inside("controller-0", arguments)
    }

    /// Runs a command in a node.
    pub fn inside(&self, node: &str, arguments: &[&str]) -> String {
        self.kayak(&[&["node", "shell", node, "--"], arguments].concat())
    }

    /// What a node's agent sees.
    pub fn agent(&self, node: &str) -> Status {
        serde_json::from_str(&self.inside(node, &["kayak", "agent-status"])).unwrap()
    }

    /// Waits until a question to kubectl has the answer that is looked for.
    pub fn wait_for(&self, arguments: &[&str], wanted: impl Fn(&str) -> bool) -> String {
        let answer = || {
            let output = self.try_kubectl(arguments);
            let text = String::from_utf8_lossy(&output.stdout).into_owned();
            if output.status.success() && wanted(&text) { Ok(text) } else { Err(show(&output)) }
        };
        eventually(&format!("kubectl {}", arguments.join(" ")), answer)
    }

    /// When each container of the control plane was started.
    pub fn containers_started(&self) -> String {
        let path = "jsonpath={.items[*].status.containerStatuses[*].state.running.startedAt}";
        self.kubectl(&["-n", "kube-system", "get", "pods", "-o", path])
    }

    /// The cluster's kubectl, for use without kayak.
    pub fn kubectl_program(&self) -> PathBuf {
        state().join(&self.name).join("bin/kubectl")
    }

    /// The directory of the cluster's assets.
    pub fn assets(&self) -> PathBuf {
        state().join(&self.name).join("assets")
    }

    /// The first process of a node, as the machine counts.
    pub fn init_process(&self, node: &str) -> Pid {
        let is_init = |process: &&Pid| {
            let path = format!("/proc/{}/cmdline", process.as_raw_nonzero());
            std::fs::read_to_string(path).is_ok_and(|command| command.starts_with("/usr/bin/kayak\0init\0"))
        };
        *self.processes(node).iter().find(is_init).expect("the node runs")
    }

    /// All processes of a node, in order: known by their control group.
    pub fn processes(&self, node: &str) -> Vec<Pid> {
        let group = format!("kayak/{}/{node}", self.name);
        let is_of_it = |groups: &str| {
            groups.lines().any(|line| line.ends_with(&group) || line.contains(&format!("{group}/")))
        };
        let entries = std::fs::read_dir("/proc").unwrap().flatten();
        let own = entries.filter_map(|entry| {
            let groups = std::fs::read_to_string(entry.path().join("cgroup")).ok()?;
            Pid::from_raw(entry.file_name().to_str()?.parse().ok()?).filter(|_| is_of_it(&groups))
        });
        let mut own: Vec<_> = own.collect();
        own.sort_by_key(|process| process.as_raw_nonzero());
        own
    }

    /// Kills a node's first process, and all of the node with it.
    pub fn lose_power(&self, node: &str) {
        let init = self.init_process(node);
        rustix::process::kill_process(init, rustix::process::Signal::KILL).unwrap();
        eventually("the node's end", || match rustix::process::test_kill_process(init) {
            Err(_) => Ok(()),
            Ok(()) => Err("it still runs".into()),
        });
    }

    /// Does something; if it panics, leaves a `kayak support` of the cluster as it is then.
    pub fn keeping_evidence<T>(&self, act: impl FnOnce() -> T) -> T {
        std::panic::catch_unwind(std::panic::AssertUnwindSafe(act)).unwrap_or_else(|panic| {
            let file = scratch().join(format!("{}-failed.tar.zst", self.name));
            // What became of it does not matter beside the failure itself.
            let _ = self.command(&["support", "-o", file.to_str().unwrap()]).output();
            eprintln!("what there was is in {}", file.display());
            std::panic::resume_unwind(panic)
        })
    }

    /// The address that clients use.
    pub fn api(&self) -> String {
        let server =
            self.kubectl(&["config", "view", "--minify", "-o", "jsonpath={.clusters[0].cluster.server}"]);
        server.trim().trim_start_matches("https://").to_owned()
    }
}

/// A cluster that several scenarios share: it is brought up when the first of them needs it.
pub struct Shared<T> {
    made: Mutex<Made<T>>,
    make: fn() -> T,
}

enum Made<T> {
    NotYet,
    There(T),
    /// Scenarios after the first one need not wait for the same failure again.
    Failed,
}

impl<T: AsRef<Cluster>> Shared<T> {
    /// One that is made so.
    pub fn new(make: fn() -> T) -> Self {
        Self { made: Mutex::new(Made::NotYet), make }
    }

    /// Runs a scenario on the shared cluster.
    pub fn with(&self, scenario: fn(&T)) {
        let mut made = self.made.lock().unwrap_or_else(PoisonError::into_inner);
        if matches!(*made, Made::NotYet) {
            *made = Made::Failed;
            *made = Made::There((self.make)());
        }
        let Made::There(cluster) = &*made else { panic!("the cluster did not come up") };
        cluster.as_ref().keeping_evidence(|| scenario(cluster));
    }

    /// Removes the shared cluster.
    pub fn remove(&self) {
        self.with(|cluster| drop(cluster.as_ref().kayak(&["down", "--yes"])));
        *self.made.lock().unwrap_or_else(PoisonError::into_inner) = Made::NotYet;
    }
}

impl AsRef<Self> for Cluster {
    fn as_ref(&self) -> &Self {
        self
    }
}

/// A command of kayak with the tests' own state directory.
pub fn kayak(arguments: &[&str]) -> Command {
    let mut command = Command::new(KAYAK);
    configure(command.args(arguments));
    command
}

fn configure(command: &mut Command) {
    command.env("KAYAK_STATE_DIR", state()).stdin(Stdio::null());
}

/// The tests' own directory, on the file system of the checkout.
pub fn scratch() -> PathBuf {
    let directory = Path::new(env!("CARGO_TARGET_TMPDIR")).join("e2e");
    std::fs::create_dir_all(&directory).unwrap();
    directory
}

fn state() -> PathBuf {
    scratch().join("state")
}

/// Runs a command that must succeed and returns its standard output.
pub fn succeed(command: &mut Command) -> String {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{command:?}\n{}", show(&output));
    String::from_utf8(output.stdout).unwrap()
}

/// What a command said, for a message.
pub fn show(output: &Output) -> String {
    let text = |bytes| String::from_utf8_lossy(bytes).into_owned();
    format!("{}\n{}{}", output.status, text(&output.stdout), text(&output.stderr))
}

/// Asks until there is an answer; what is asked about changes outside of this process, so that
/// there is nothing to wait on.
pub fn eventually<T>(what: &str, ask: impl Fn() -> Result<T, String>) -> T {
    let start = Instant::now();
    loop {
        match ask() {
            Ok(answer) => return answer,
            Err(why) => assert!(start.elapsed() < PATIENCE, "gave up waiting for {what}: {why}"),
        }
        std::thread::sleep(Duration::from_millis(200));
    }
}

/// A process that ends with the scenario.
pub struct Running(pub Child);

impl Drop for Running {
    fn drop(&mut self) {
        // It may have ended by itself; either way it is waited for.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
