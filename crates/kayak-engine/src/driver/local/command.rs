//! Running the machine's and the node image's programs.

use std::io;
use std::process::{ExitStatus, Stdio};

use camino::Utf8Path;
use tokio::io::AsyncWriteExt as _;
use tokio::process::Command;

/// How many bytes of a failed program's complaints are kept.
const TAIL: usize = 2000;

/// Why a program could not do its work.
#[derive(Debug, thiserror::Error)]
pub enum CommandError {
    /// It could not be started.
    #[error("failed to start `{command}`")]
    Start {
        /// The command line.
        command: String,
        /// Why.
        source: io::Error,
    },
    /// Its input could not be written or its output not be read.
    #[error("failed to talk to `{command}`")]
    Talk {
        /// The command line.
        command: String,
        /// Why.
        source: io::Error,
    },
    /// It said that it failed.
    #[error("`{command}` failed with {status}: {complaint}")]
    Failed {
        /// The command line.
        command: String,
        /// How it ended.
        status: ExitStatus,
        /// The last of what it wrote to its standard error.
        complaint: String,
    },
}

/// Runs a program to its end and returns its output.
pub(crate) async fn run(command: &mut Command, input: &str) -> Result<Vec<u8>, CommandError> {
    let line = describe(command);
    let talk = |source| CommandError::Talk { command: line.clone(), source };
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .map_err(|source| CommandError::Start { command: line.clone(), source })?;
    if let Some(mut stdin) = child.stdin.take() {
        match stdin.write_all(input.as_bytes()).await {
            // A program that ends before it has read everything says itself why.
            Err(error) if error.kind() != io::ErrorKind::BrokenPipe => return Err(talk(error)),
            _ => {}
        }
    }
    let output = child.wait_with_output().await.map_err(talk)?;
    if output.status.success() {
        return Ok(output.stdout);
    }
    let complaint = tail(&output.stderr);
    Err(CommandError::Failed { command: line, status: output.status, complaint })
}

/// Returns a program of a root file system, to be run in it; its namespaces are the machine's.
pub(crate) fn in_root(root: &Utf8Path, program: &str) -> Command {
    let mut command = Command::new("chroot");
    command.arg(root).arg(program).env_clear().env("PATH", super::oci::PATH);
    // chroot itself is the machine's.
    if let Some(path) = std::env::var_os("PATH") {
        command.env("PATH", path);
    }
    command
}

/// Returns the command line as a person would type it.
pub(crate) fn describe(command: &Command) -> String {
    let command = command.as_std();
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    words.map(|word| word.to_string_lossy()).collect::<Vec<_>>().join(" ")
}

/// Returns the last of a text that is worth showing.
pub(crate) fn tail(text: &[u8]) -> String {
    let start = text.len().saturating_sub(TAIL);
    String::from_utf8_lossy(&text[start..]).trim().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_failure_names_the_command_and_its_complaint() {
        let mut command = Command::new("sh");
        command.args(["-c", "cat >&2; exit 3"]);
        let error = run(&mut command, "no such thing\n").await.unwrap_err();
        assert_eq!(error.to_string(), "`sh -c cat >&2; exit 3` failed with exit status: 3: no such thing");
    }

    #[tokio::test]
    async fn a_program_may_ignore_its_input() {
        let input = "x".repeat(1 << 20);
        assert!(run(&mut Command::new("true"), &input).await.is_ok());
    }
}
