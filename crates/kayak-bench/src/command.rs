//! Running programs of this machine.

use tokio::process::Command;

use crate::error::BenchError;

/// Runs a program to its end, which must be a good one, and returns what it printed.
pub async fn run(command: &mut Command) -> Result<String, BenchError> {
    let line = line(command);
    let output = command.kill_on_drop(true).output().await;
    let output = output.map_err(|source| BenchError::Start { line: line.clone(), source })?;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    if output.status.success() {
        return Ok(text(&output.stdout));
    }
    let said = text(&output.stderr) + &text(&output.stdout);
    Err(BenchError::Failed { line, code: output.status.code().unwrap_or(-1), said })
}

/// The command as one would type it.
pub fn line(command: &Command) -> String {
    let command = command.as_std();
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    words.map(|word| word.to_string_lossy()).collect::<Vec<_>>().join(" ")
}
