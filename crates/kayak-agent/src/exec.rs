//! Becoming another program.

use std::io;
use std::os::unix::process::CommandExt;
use std::process::Command;

/// Why this process is still the one it was.
#[derive(Debug, thiserror::Error)]
pub enum ExecError {
    /// There is nothing to become.
    #[error("there is no command to run")]
    NoCommand,
    /// The program cannot be run.
    #[error("failed to run `{program}`")]
    Run {
        /// The program.
        program: String,
        /// Why.
        #[source]
        source: io::Error,
    },
}

/// Becomes the program; returns only if that fails.
pub(crate) fn exec(command: &[String]) -> ExecError {
    let Some((program, arguments)) = command.split_first() else {
        return ExecError::NoCommand;
    };
    let source = Command::new(program).args(arguments).exec();
    ExecError::Run { program: program.clone(), source }
}
