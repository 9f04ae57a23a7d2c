//! The file that starts a cluster at boot, on the disk; its text is `kayak_core::boot`'s.

use std::fs::{self, Permissions};
use std::io::{self, ErrorKind};
use std::os::unix::fs::{PermissionsExt as _, symlink};

use camino::{Utf8Path, Utf8PathBuf};
use kayak_core::boot::{Boot, Init};
use kayak_engine::dirs::Dirs;

/// The file of one cluster for one init.
pub struct Unit {
    init: Init,
    boot: Boot,
}

/// Why it could not be written or removed.
#[derive(Debug, thiserror::Error)]
pub enum UnitError {
    #[error("failed to tell where `{path}` is")]
    Locate { path: Utf8PathBuf, source: io::Error },
    #[error("failed to find the program that this process runs")]
    Own(#[source] io::Error),
    #[error("failed to read `{path}`")]
    Read { path: Utf8PathBuf, source: io::Error },
    #[error("failed to write `{path}`")]
    Write { path: Utf8PathBuf, source: io::Error },
    #[error("failed to remove `{path}`")]
    Remove { path: Utf8PathBuf, source: io::Error },
    #[error("`{0}` starts a cluster of another state directory; nothing was changed")]
    Foreign(Utf8PathBuf),
}

impl Unit {
    /// Describes it, with these directories, wherever it will be run from.
    pub fn of(init: Init, dirs: &Dirs, cluster: &str) -> Result<Self, UnitError> {
        let absolute = |path: &Utf8Path| {
            let located = camino::absolute_utf8(path);
            located.map_err(|source| UnitError::Locate { path: path.to_owned(), source })
        };
        let (state, cache) = (absolute(&dirs.state)?, absolute(&dirs.cache)?);
        // A copy: whoever builds or updates kayak must not break the machine's boot.
        let program = state.join(cluster).join("bin/kayak");
        Ok(Self { init, boot: Boot { cluster: cluster.to_owned(), program, state, cache } })
    }

    /// Writes program, file and link, and returns those that were not there as they should be.
    pub fn write(&self) -> Result<Vec<Utf8PathBuf>, UnitError> {
        let (file, link) = (self.file(), self.link());
        if self.is_foreign()? {
            return Err(UnitError::Foreign(file));
        }
        let mut written = Vec::new();
        let own = std::env::current_exe().and_then(fs::read).map_err(UnitError::Own)?;
        let program = &self.boot.program;
        for (path, content, mode) in
            [(program, own, 0o755), (&file, self.init.text(&self.boot).into_bytes(), self.init.mode())]
        {
            if read(path)?.as_ref() != Some(&content) {
                replace(path, &content, mode)
                    .map_err(|source| UnitError::Write { path: path.clone(), source })?;
                written.push(path.clone());
            }
        }
        if link.read_link_utf8().ok().as_ref() != Some(&file) {
            relink(&file, &link).map_err(|source| UnitError::Write { path: link.clone(), source })?;
            written.push(link);
        }
        Ok(written)
    }

    fn file(&self) -> Utf8PathBuf {
        self.init.file(&self.boot.cluster)
    }

    fn link(&self) -> Utf8PathBuf {
        self.init.link(&self.boot.cluster)
    }

    /// Tells whether the file is there and runs another kayak: that of a cluster of this name in
    /// another state directory.
    fn is_foreign(&self) -> Result<bool, UnitError> {
        let Some(found) = read(&self.file())? else { return Ok(false) };
        let own = self.init.text(&self.boot);
        let run = own.lines().find(|line| line.ends_with(" resume")).unwrap_or_default();
        Ok(!String::from_utf8_lossy(&found).contains(run))
    }
}

/// Removes a cluster's files and links of every init, but not the copy of kayak, which may be the
/// one that runs; returns what was there. Another state directory's are left alone.
pub fn remove_units(dirs: &Dirs, cluster: &str) -> Result<Vec<Utf8PathBuf>, UnitError> {
    let mut removed = Vec::new();
    for init in Init::ALL {
        let unit = Unit::of(init, dirs, cluster)?;
        if unit.is_foreign()? {
            continue;
        }
        // The link first: a link to nothing is an error at boot.
        for path in [unit.link(), unit.file()] {
            match fs::remove_file(&path) {
                Ok(()) => removed.push(path),
                Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => {}
                Err(source) => return Err(UnitError::Remove { path, source }),
            }
        }
    }
    Ok(removed)
}

fn read(path: &Utf8Path) -> Result<Option<Vec<u8>>, UnitError> {
    match fs::read(path) {
        Ok(content) => Ok(Some(content)),
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => Ok(None),
        Err(source) => Err(UnitError::Read { path: path.to_owned(), source }),
    }
}

/// Writes a file as a whole or not at all; what runs the old one goes on doing so.
fn replace(path: &Utf8Path, content: &[u8], mode: u32) -> io::Result<()> {
    let partial = Utf8PathBuf::from(format!("{path}.partial"));
    fs::create_dir_all(path.parent().unwrap_or(path))?;
    fs::write(&partial, content)?;
    fs::set_permissions(&partial, Permissions::from_mode(mode))?;
    fs::rename(&partial, path)
}

fn relink(file: &Utf8Path, link: &Utf8Path) -> io::Result<()> {
    let partial = Utf8PathBuf::from(format!("{link}.partial"));
    fs::create_dir_all(link.parent().unwrap_or(link))?;
    match fs::remove_file(&partial) {
        Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
        _ => symlink(file, &partial)?,
    }
    fs::rename(&partial, link)
}
