//! Containers by runc, on an overlay that this machine's mount table never shows.

use std::fs::File;
use std::process::Stdio;

use camino::{Utf8Path, Utf8PathBuf};
use serde::Deserialize;
use tokio::process::Command;

use super::command::{self, CommandError};
use super::disk;
use super::error::LocalError;
use super::oci;

/// Where the node image has runc, which is static and runs on the machine as well.
const RUNC: &str = "usr/local/bin/runc";

/// Mounts an overlay and then runs a program: its options, its place, the program's words. In
/// a mount namespace of its own, so that the overlay is only there for that program and the
/// container that it makes; whatever is killed, the kernel unmounts it with the last of them.
/// A private namespace also keeps mounts of the container, which are shared, from the machine.
const ON_OVERLAY: &str = r#"mount -t overlay kayak -o "$1" "$2" && shift 2 && exec "$@""#;

/// A root file system: an image, and what is written to it, which does not outlive a restart.
#[derive(Debug, Clone)]
pub(crate) struct Overlay {
    image: Utf8PathBuf,
    scratch: Utf8PathBuf,
}

impl Overlay {
    /// Plans an overlay on an image, with its own directories below `scratch`.
    pub(crate) fn new(image: Utf8PathBuf, scratch: Utf8PathBuf) -> Self {
        Self { image, scratch }
    }

    /// Empties what is written, or makes the directories for it.
    pub(crate) fn reset(&self) -> Result<(), LocalError> {
        [self.upper(), self.work(), self.root()].iter().try_for_each(|path| disk::empty_directory(path))
    }

    /// Where files are put that the image lacks.
    pub(crate) fn upper(&self) -> Utf8PathBuf {
        self.scratch.join("upper")
    }

    fn work(&self) -> Utf8PathBuf {
        self.scratch.join("work")
    }

    /// Where it is mounted.
    pub(crate) fn root(&self) -> Utf8PathBuf {
        self.scratch.join("root")
    }

    /// Returns a command that finds the overlay mounted.
    fn command(&self, program: &Utf8Path) -> Command {
        let options = format!("lowerdir={},upperdir={},workdir={}", self.image, self.upper(), self.work());
        let mut command = Command::new("unshare");
        command.args(["--mount", "--propagation", "private", "sh", "-c", ON_OVERLAY, "sh"]);
        command.args([options.as_str(), self.root().as_str()]).arg(program);
        command
    }
}

/// runc, and what it knows of some containers.
#[derive(Debug, Clone)]
pub(crate) struct Runc {
    program: Utf8PathBuf,
    state: Utf8PathBuf,
}

/// What `runc state` says.
#[derive(Debug, Deserialize)]
struct State {
    status: String,
    pid: u32,
}

impl Runc {
    /// Uses an unpacked image's runc.
    pub(crate) fn of_image(image: &Utf8Path, state: Utf8PathBuf) -> Self {
        Self { program: image.join(RUNC), state }
    }

    fn command(&self) -> Command {
        let mut command = Command::new(&self.program);
        command.arg("--root").arg(&self.state);
        command
    }

    /// Makes a container that waits to be started, and returns its first process. `bundle` is
    /// a directory to keep its configuration in.
    pub(crate) async fn create(
        &self,
        name: &str,
        bundle: &Utf8Path,
        overlay: &Overlay,
        config: &serde_json::Value,
        console: File,
    ) -> Result<u32, LocalError> {
        disk::create_directory(&self.state, 0o700)?;
        let log = write_bundle(bundle, config)?;
        let pid_file = bundle.join("pid");
        let both = console.try_clone().map_err(LocalError::write(bundle))?;
        let mut command = overlay.command(&self.program);
        command.arg("--root").arg(&self.state).arg("--log").arg(&log);
        command.args(["create", "--bundle", bundle.as_str(), "--pid-file", pid_file.as_str(), name]);
        // These become the container's.
        command.stdin(Stdio::null()).stdout(console).stderr(both).kill_on_drop(true);
        let line = command::describe(&command);
        let status = command.status().await;
        let status = status.map_err(|source| CommandError::Start { command: line.clone(), source })?;
        if !status.success() {
            let complaint = command::tail(&disk::read(&log)?.unwrap_or_default());
            return Err(CommandError::Failed { command: line, status, complaint }.into());
        }
        let pid = std::fs::read_to_string(&pid_file).map_err(LocalError::read(&pid_file))?;
        let parsed = serde_json::from_str(pid.trim());
        parsed.map_err(|source| LocalError::Parse { what: pid_file.into_string(), source })
    }

    /// Returns a command that runs a container from its start to its end. runc removes it then.
    pub(crate) fn run(
        &self,
        name: &str,
        bundle: &Utf8Path,
        overlay: &Overlay,
        config: &serde_json::Value,
    ) -> Result<Command, LocalError> {
        disk::create_directory(&self.state, 0o700)?;
        let log = write_bundle(bundle, config)?;
        let mut command = overlay.command(&self.program);
        command.arg("--root").arg(&self.state).arg("--log").arg(&log);
        command.args(["run", "--bundle", bundle.as_str(), name]);
        Ok(command)
    }

    /// Lets a container's first process begin.
    pub(crate) async fn start(&self, name: &str) -> Result<(), CommandError> {
        command::run(self.command().args(["start", name]), "").await.map(drop)
    }

    /// Returns the first process of a container that was started and still runs.
    pub(crate) async fn running(&self, name: &str) -> Result<Option<u32>, LocalError> {
        if !self.knows(name) {
            return Ok(None);
        }
        let said = command::run(self.command().args(["state", name]), "").await?;
        let state: State = serde_json::from_slice(&said)
            .map_err(|source| LocalError::Parse { what: format!("runc state {name}"), source })?;
        Ok(matches!(state.status.as_str(), "running" | "paused").then_some(state.pid))
    }

    /// Tells whether a container was made, running or not. runc writes the file as the last act of
    /// making one; if it is cut off before, it does not admit to a container.
    pub(crate) fn knows(&self, name: &str) -> bool {
        self.directory(name).join("state.json").exists()
    }

    /// Makes runc forget a container whose processes and control groups are gone.
    pub(crate) fn forget(&self, name: &str) -> Result<(), LocalError> {
        disk::remove(&self.directory(name))
    }

    fn directory(&self, name: &str) -> Utf8PathBuf {
        self.state.join(name)
    }

    /// Returns a command that runs a program in a container.
    pub(crate) fn exec(&self, name: &str, terminal: bool, program: &[String]) -> Command {
        let mut command = self.command();
        command.args(["exec", "--cwd", "/", "--env", &format!("PATH={}", oci::PATH), "--env", "HOME=/root"]);
        if terminal {
            let kind = std::env::var("TERM").unwrap_or_else(|_| "linux".into());
            command.args(["--tty", "--env", &format!("TERM={kind}")]);
        }
        command.arg(name).args(program);
        command
    }
}

fn write_bundle(bundle: &Utf8Path, config: &serde_json::Value) -> Result<Utf8PathBuf, LocalError> {
    disk::create_directory(bundle, 0o755)?;
    disk::write(&bundle.join("config.json"), config.to_string().as_bytes())?;
    let log = bundle.join("runc.log");
    disk::write(&log, b"")?;
    Ok(log)
}
