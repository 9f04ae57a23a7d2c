//! What is noted of a unit's process, so that the next agent finds it.

use std::fs;
use std::io::{self, ErrorKind};
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::process::Process;
use super::recipe::Recipe;

/// The note about one unit's process; gone after a restart of the node, as the process is.
pub(super) struct Note {
    path: PathBuf,
}

/// A process by its id and its start, since ids are used again.
#[derive(Serialize, Deserialize)]
struct Noted {
    pid: u32,
    started: String,
    recipe: Recipe,
}

impl Note {
    pub(super) fn new(path: PathBuf) -> Self {
        Self { path }
    }

    pub(super) fn write(&self, process: &Process, recipe: &Recipe) -> io::Result<()> {
        let pid = process.pid();
        let noted = Noted { pid, started: start_time(pid)?, recipe: recipe.clone() };
        fs::write(&self.path, serde_json::to_vec(&noted)?)
    }

    pub(super) fn remove(&self) -> io::Result<()> {
        match fs::remove_file(&self.path) {
            Err(error) if error.kind() != ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }

    /// Returns the process the note speaks of, if it is still that one, and what it was started with.
    pub(super) fn process(&self) -> io::Result<Option<(Process, Recipe)>> {
        let text = match fs::read(&self.path) {
            Ok(text) => text,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        let Ok(Noted { pid, started, recipe }) = serde_json::from_slice(&text) else {
            return Ok(None); // cut off while it was written
        };
        let Some(process) = Process::open(pid)? else {
            return Ok(None);
        };
        // Compared once the handle is held: from here on it cannot become another process.
        Ok(start_time(pid).is_ok_and(|now| now == started).then_some((process, recipe)))
    }
}

/// Returns when a process was started, in ticks since boot.
fn start_time(pid: u32) -> io::Result<String> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
    // The second field, the name in parentheses, may hold spaces and parentheses itself; the start
    // is the 22nd (proc_pid_stat(5)).
    let after_name = stat.rsplit_once(')').map_or("", |(_, rest)| rest);
    let ticks = after_name.split_whitespace().nth(19);
    ticks.map(str::to_owned).ok_or_else(|| io::Error::from(ErrorKind::InvalidData))
}

#[cfg(test)]
mod tests {
    use super::super::recipe;
    use super::*;

    #[tokio::test]
    async fn only_the_very_process_is_found() {
        let root = tempfile::tempdir().unwrap();
        let note = Note::new(root.path().join("unit"));
        assert!(note.process().unwrap().is_none());
        let recipe = recipe::testing("sleep 1000");
        let output = fs::File::create(root.path().join("output")).unwrap();
        let process = Process::spawn(&recipe.unit, output).unwrap();
        note.write(&process, &recipe).unwrap();
        let (found, with) = note.process().unwrap().unwrap();
        assert_eq!((found.pid(), with), (process.pid(), recipe));

        // An id that was used again.
        let text = fs::read_to_string(&note.path).unwrap();
        let started = format!(r#""started":"{}""#, start_time(process.pid()).unwrap());
        fs::write(&note.path, text.replace(&started, r#""started":"1""#)).unwrap();
        assert!(note.process().unwrap().is_none());

        process.end().await.unwrap();
        fs::write(&note.path, text).unwrap();
        assert!(note.process().unwrap().is_none());
    }
}
