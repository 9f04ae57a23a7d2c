//! Who works on a cluster: one kayak at a time, and one state directory, on the whole machine.
//!
//! Bridge, rules and control groups are named after the cluster, whatever directory its state is
//! in, so the lock is kept beside them: it is the machine's, and does not outlive its restart.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, ErrorKind, Read as _, Write as _};
use std::os::unix::fs::MetadataExt as _;
use std::time::SystemTime;

use camino::{Utf8Path, Utf8PathBuf};

use crate::error::CommandError;

/// Held while a cluster is changed; the kernel gives it up when the process ends, however it ends.
#[derive(Debug)]
pub struct Lock {
    path: Utf8PathBuf,
    _file: File,
}

#[derive(Debug, thiserror::Error)]
enum LockError {
    #[error("failed to make `{path}`")]
    Make { path: Utf8PathBuf, source: io::Error },
    #[error("failed to open `{path}`")]
    Open { path: Utf8PathBuf, source: io::Error },
    #[error("failed to lock `{path}`")]
    Lock { path: Utf8PathBuf, source: io::Error },
    #[error("failed to look at `{path}`")]
    Look { path: Utf8PathBuf, source: io::Error },
    #[error("failed to write `{path}`")]
    Write { path: Utf8PathBuf, source: io::Error },
    #[error("failed to read `{path}`")]
    Read { path: Utf8PathBuf, source: io::Error },
}

impl Lock {
    /// Makes sure that no other kayak works on the same cluster, and that the cluster is not another
    /// state directory's. `run` is where the machine has what runs.
    pub fn take(run: &Utf8Path, state: &Utf8Path, cluster: &str) -> Result<Self, CommandError> {
        let path = run.join(format!("{cluster}.lock"));
        let lock = loop {
            fs::create_dir_all(run).map_err(|source| LockError::Make { path: run.to_owned(), source })?;
            let opened = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(&path);
            let mut file = match opened {
                // Whoever held it last has just removed the directory.
                Err(error) if error.kind() == ErrorKind::NotFound => continue,
                opened => opened.map_err(|source| LockError::Open { path: path.clone(), source })?,
            };
            match file.try_lock() {
                Err(TryLockError::WouldBlock) => return Err(refusal(cluster, &mut file)),
                Err(TryLockError::Error(source)) => return Err(LockError::Lock { path, source }.into()),
                Ok(()) => {}
            }
            // The file may have been removed between the opening and the locking, and a lock on
            // what nobody else can find keeps nobody out.
            let ours = file.metadata().map_err(|source| LockError::Look { path: path.clone(), source })?;
            if path.metadata().is_ok_and(|there| there.ino() == ours.ino()) {
                sign(&mut file).map_err(|source| LockError::Write { path: path.clone(), source })?;
                break Self { path, _file: file };
            }
        };
        claim(run, state, cluster)?;
        Ok(lock)
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        // While it is still locked, so that nobody else's is removed.
        if let Err(error) = fs::remove_file(&self.path) {
            tracing::warn!("failed to remove `{}`: {error}", self.path);
        }
        // It fails where anything runs, and then it is to stay.
        let _ = self.path.parent().map(fs::remove_dir);
    }
}

/// Says who we are, for whoever is refused.
fn sign(file: &mut File) -> io::Result<()> {
    let mut words = vec!["kayak".to_owned()];
    words.extend(std::env::args().skip(1));
    // What a dead holder wrote goes.
    file.set_len(0)?;
    write!(file, "{}\n{}\n", std::process::id(), words.join(" "))
}

fn refusal(cluster: &str, file: &mut File) -> CommandError {
    let holder = holder(file).map(|holder| format!(": {holder}")).unwrap_or_default();
    CommandError::failed(format!("another kayak works on cluster `{cluster}`{holder}; nothing was changed"))
        .hint("wait until it has ended, then run the command again")
}

/// Reads who holds a lock; `None` in the moment before it has said so.
fn holder(file: &mut File) -> Option<String> {
    let mut text = String::new();
    file.read_to_string(&mut text).ok()?;
    let (pid, command) = text.trim_end().split_once('\n')?;
    let since = file.metadata().and_then(|found| found.modified()).ok()?;
    let seconds = SystemTime::now().duration_since(since).unwrap_or_default().as_secs();
    Some(format!("process {pid}, `{command}`, for {seconds} s"))
}

/// Remembers which state directory the cluster is in, while anything of it may run, and refuses
/// another one's: the two would take each other's bridge, rules and processes for their own.
fn claim(run: &Utf8Path, state: &Utf8Path, cluster: &str) -> Result<(), CommandError> {
    let directory = run.join(cluster);
    let record = directory.join("state");
    let claimed = match fs::read_to_string(&record) {
        Err(error) if error.kind() == ErrorKind::NotFound => None,
        read => Some(read.map_err(|source| LockError::Read { path: record.clone(), source })?),
    };
    // A directory that is gone holds nothing back: what is left of its cluster can be removed.
    if let Some(theirs) = claimed.filter(|theirs| Utf8Path::new(theirs).join(cluster).exists())
        && !is_same(theirs.as_ref(), state)
    {
        let message = format!("cluster `{cluster}` runs from the state directory `{theirs}`, not `{state}`");
        return Err(CommandError::failed(format!("{message}; nothing was changed")).hint(format!(
            "give this one another name, or mean that one: `KAYAK_STATE_DIR={theirs}` before the command"
        )));
    }
    let own =
        std::path::absolute(state).map_err(|source| LockError::Look { path: state.to_owned(), source })?;
    fs::create_dir_all(&directory).map_err(|source| LockError::Make { path: directory, source })?;
    let written = fs::write(&record, own.as_os_str().as_encoded_bytes());
    Ok(written.map_err(|source| LockError::Write { path: record, source })?)
}

fn is_same(one: &Utf8Path, other: &Utf8Path) -> bool {
    let real = |path: &Utf8Path| path.canonicalize_utf8().ok();
    one == other || real(one).is_some_and(|one| real(other) == Some(one))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A directory for what runs, and two for state.
    fn machine(scratch: &tempfile::TempDir) -> [Utf8PathBuf; 3] {
        let root = Utf8Path::from_path(scratch.path()).unwrap();
        ["run", "one", "two"].map(|name| root.join(name))
    }

    fn message(refused: Result<Lock, CommandError>) -> String {
        refused.err().unwrap().message()
    }

    #[test]
    fn the_second_is_refused_and_told_who_is_first() {
        let scratch = tempfile::tempdir().unwrap();
        let [run, one, two] = machine(&scratch);
        let held = Lock::take(&run, &one, "home").unwrap();
        for state in [&one, &two] {
            let message = message(Lock::take(&run, state, "home"));
            assert!(message.contains(&format!("process {}, `kayak", std::process::id())), "{message}");
            assert!(message.contains("nothing was changed"), "{message}");
        }
        assert!(Lock::take(&run, &one, "other").is_ok(), "another cluster is nobody's business");
        drop(held);
        assert!(Lock::take(&run, &one, "home").is_ok());
    }

    #[test]
    fn what_a_dead_holder_left_is_taken_over() {
        let scratch = tempfile::tempdir().unwrap();
        let [run, one, _] = machine(&scratch);
        fs::create_dir(&run).unwrap();
        fs::write(run.join("home.lock"), "1\nkayak with-a-longer-command-line than-ours\n").unwrap();
        let held = Lock::take(&run, &one, "home").unwrap();
        let text = fs::read_to_string(&held.path).unwrap();
        assert!(
            text.starts_with(&format!("{}\n", std::process::id())) && text.lines().count() == 2,
            "{text}"
        );
        drop(held);
        assert!(!run.join("home.lock").exists());
    }

    #[test]
    fn a_cluster_of_another_state_directory_is_refused() {
        let scratch = tempfile::tempdir().unwrap();
        let [run, one, two] = machine(&scratch);
        fs::create_dir_all(one.join("home")).unwrap();
        drop(Lock::take(&run, &one, "home").unwrap());
        let link = run.join("link");
        std::os::unix::fs::symlink(&one, &link).unwrap();
        drop(Lock::take(&run, &link, "home").unwrap());
        let message = message(Lock::take(&run, &two, "home"));
        assert!(message.contains(&format!("from the state directory `{link}`")), "{message}");
        // Whose directory was deleted has nothing to lose.
        fs::remove_dir(one.join("home")).unwrap();
        drop(Lock::take(&run, &two, "home").unwrap());
    }
}
