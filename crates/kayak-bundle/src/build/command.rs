//! Running a program that builds something, so that whoever has to look into it can run it again.

use std::fmt;
use std::io;
use std::process::{Command, ExitStatus, Stdio};

use camino::{Utf8Path, Utf8PathBuf};

use crate::files::{self, FileError};

/// How many of a log's last lines tell what went wrong.
const TAIL: usize = 30;

/// A program to run, shown as a line that can be pasted into a shell.
#[derive(Clone, Debug)]
pub(crate) struct Invocation {
    pub(crate) directory: Utf8PathBuf,
    pub(crate) environment: Vec<(&'static str, String)>,
    pub(crate) arguments: Vec<String>,
}

/// Why a command did not do its work.
#[derive(Debug, thiserror::Error)]
pub enum CommandError {
    /// It could not be started.
    #[error("failed to start `{command}`")]
    Start {
        /// The command, to be pasted into a shell.
        command: String,
        /// Why.
        source: io::Error,
    },
    /// It ran and failed.
    #[error("`{command}` failed with {status}; the whole log is `{log}` and ends with:\n{tail}")]
    Failed {
        /// The command, to be pasted into a shell.
        command: String,
        /// How it ended.
        status: ExitStatus,
        /// Where all that it said is.
        log: Utf8PathBuf,
        /// The last lines of it.
        tail: String,
    },
    /// Its log could not be written or read.
    #[error(transparent)]
    Log(#[from] FileError),
}

impl Invocation {
    /// Runs it to its end; all it says goes to `log`.
    pub(crate) fn run(&self, log: &Utf8Path) -> Result<(), CommandError> {
        let start = |source| CommandError::Start { command: self.to_string(), source };
        let output = files::create(log)?;
        let (program, arguments) = self.arguments.split_first().map_or(("", &[][..]), |(p, a)| (p, a));
        let status = Command::new(program)
            .args(arguments)
            .current_dir(&self.directory)
            .envs(self.environment.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::null())
            .stderr(output.try_clone().map_err(start)?)
            .stdout(output)
            .status()
            .map_err(start)?;
        if status.success() {
            return Ok(());
        }
        let said = files::read(log)?;
        Err(CommandError::Failed {
            command: self.to_string(),
            status,
            log: log.to_owned(),
            tail: last_lines(&String::from_utf8_lossy(&said), TAIL),
        })
    }
}

impl fmt::Display for Invocation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "cd {} &&", quoted(self.directory.as_str()))?;
        for (name, value) in &self.environment {
            write!(f, " {name}={}", quoted(value))?;
        }
        for argument in &self.arguments {
            write!(f, " {}", quoted(argument))?;
        }
        Ok(())
    }
}

/// Returns a word as a shell reads it back.
fn quoted(word: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_./,:=@%+".contains(&byte);
    if !word.is_empty() && word.bytes().all(plain) {
        word.to_owned()
    } else {
        format!("'{}'", word.replace('\'', r"'\''"))
    }
}

fn last_lines(text: &str, count: usize) -> String {
    let lines: Vec<_> = text.lines().collect();
    lines[lines.len().saturating_sub(count)..].join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str) -> Invocation {
        Invocation {
            directory: "/".into(),
            environment: vec![("WORD", "it's".to_owned())],
            arguments: ["sh", "-c", script].map(str::to_owned).to_vec(),
        }
    }

    #[test]
    fn a_command_is_shown_as_it_can_be_pasted() {
        assert_eq!(shell("exit 3").to_string(), r"cd / && WORD='it'\''s' sh -c 'exit 3'");
    }

    #[test]
    fn a_failure_tells_the_end_of_the_log_and_where_it_is() {
        let scratch = tempfile::tempdir().unwrap();
        let log = Utf8Path::from_path(scratch.path()).unwrap().join("log");
        shell("true").run(&log).unwrap();
        let error = shell("seq 100; echo $WORD >&2; exit 3").run(&log).unwrap_err();
        let CommandError::Failed { status, tail, log: told, .. } = error else { panic!("{error}") };
        assert_eq!((status.code(), told), (Some(3), log));
        assert_eq!(tail.lines().count(), TAIL);
        assert!(tail.starts_with("72\n") && tail.ends_with("it's"), "{tail}");
    }
}
