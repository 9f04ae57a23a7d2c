//! Whoever typed the command, behind sudo and doas too: whose files are written, and as whom.

use std::fs;
use std::io;
use std::thread;

use camino::{Utf8Path, Utf8PathBuf};
use rustix::fs::{Gid, Uid};
use rustix::thread::{set_thread_groups, set_thread_res_gid, set_thread_res_uid};

/// A user of this machine.
#[derive(Debug, PartialEq, Eq)]
pub struct Caller {
    home: Option<Utf8PathBuf>,
    /// Whom to become for their files, if that is not who this process is.
    other: Option<Ids>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Ids {
    user: u32,
    group: u32,
}

/// Why it cannot be told who the caller is, or nothing be done as them.
#[derive(Debug, thiserror::Error)]
pub enum CallerError {
    /// The users cannot be read.
    #[error("failed to read `/etc/passwd`")]
    Passwd(#[source] io::Error),
    /// Who started this process is not among them.
    #[error("`/etc/passwd` has no user `{0}`")]
    Unknown(String),
    /// They have no home.
    #[error("`/etc/passwd` has no home for whoever calls")]
    NoHome,
    /// The kernel does not let this process become them.
    #[error("failed to act as user {user}")]
    Become {
        /// Whom.
        user: u32,
        /// Why.
        source: io::Error,
    },
    /// The work ended in a panic.
    #[error("the work as user {0} broke off")]
    Panicked(u32),
}

impl Caller {
    /// Finds out who started this process.
    ///
    /// sudo tells numbers, doas a name. `HOME` is the caller's own only where neither is in between:
    /// some keep it, others set it to root's.
    pub fn of_process() -> Result<Self, CallerError> {
        let passwd = fs::read_to_string("/etc/passwd").map_err(CallerError::Passwd)?;
        let own = rustix::process::geteuid().as_raw();
        Self::decide(own, &passwd, |name| std::env::var(name).ok().filter(|value| !value.is_empty()))
    }

    fn decide(own: u32, passwd: &str, var: impl Fn(&str) -> Option<String>) -> Result<Self, CallerError> {
        let entry = |field: usize, value: &str| {
            let mut users = passwd.lines().map(|line| line.split(':').collect::<Vec<_>>());
            users.find(|user| user.get(field) == Some(&value))
        };
        let home = |user: u32| {
            let entry = entry(2, &user.to_string());
            entry.and_then(|user| user.get(5).map(Utf8PathBuf::from)).filter(|home| !home.as_str().is_empty())
        };
        let number = |name| var(name).and_then(|value| value.parse::<u32>().ok());
        let sudo = number("SUDO_UID").zip(number("SUDO_GID")).map(|(user, group)| Ids { user, group });
        let other = match (sudo, var("DOAS_USER")) {
            (Some(ids), _) => Some(ids),
            (None, Some(name)) => {
                let user = entry(0, &name);
                let id =
                    |at: usize| user.as_ref().and_then(|user| user.get(at)).and_then(|id| id.parse().ok());
                let ids = id(2).zip(id(3)).map(|(user, group)| Ids { user, group });
                Some(ids.ok_or(CallerError::Unknown(name))?)
            }
            (None, None) => None,
        };
        // Only root can be somebody else; and what others have in these variables is no affair of sudo's.
        match other.filter(|ids| own == 0 && ids.user != 0) {
            Some(ids) => Ok(Self { home: home(ids.user), other: Some(ids) }),
            None => Ok(Self { home: var("HOME").map(Into::into).or_else(|| home(own)), other: None }),
        }
    }

    /// Returns where their own files are.
    pub fn home(&self) -> Result<&Utf8Path, CallerError> {
        self.home.as_deref().ok_or(CallerError::NoHome)
    }

    /// Does something with the caller's rights and in their name: what is made is theirs, and links
    /// in their directories lead nowhere that they could not go themselves.
    pub fn run<T: Send>(&self, work: impl FnOnce() -> T + Send) -> Result<T, CallerError> {
        let Some(ids) = self.other else { return Ok(work()) };
        // Linux keeps who somebody is by the thread: this one ends as another, all others stay.
        let thread = move || become_user(ids).map(|()| work());
        let done = thread::scope(|scope| scope.spawn(thread).join());
        done.map_err(|_| CallerError::Panicked(ids.user))?
    }
}

fn become_user(Ids { user, group }: Ids) -> Result<(), CallerError> {
    let failed = |error: rustix::io::Errno| CallerError::Become { user, source: error.into() };
    let (uid, gid) = (Uid::from_raw(user), Gid::from_raw(group));
    set_thread_groups(&[gid]).map_err(failed)?;
    set_thread_res_gid(gid, gid, gid).map_err(failed)?;
    set_thread_res_uid(uid, uid, uid).map_err(failed)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt as _;

    use super::*;

    const PASSWD: &str = "root:x:0:0:root:/root:/bin/bash\nanna:x:1000:1001:Anna,,,:/home/anna:/bin/sh\n";
    const ANNA: Ids = Ids { user: 1000, group: 1001 };

    fn decide(own: u32, vars: &[(&str, &str)]) -> Result<Caller, CallerError> {
        let vars = vars.to_vec();
        Caller::decide(own, PASSWD, |name| {
            vars.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned())
        })
    }

    #[test]
    fn behind_sudo_and_doas_is_whoever_typed_it() {
        let sudo = [("HOME", "/root"), ("SUDO_UID", "1000"), ("SUDO_GID", "1001"), ("SUDO_USER", "anna")];
        let anna = Caller { home: Some("/home/anna".into()), other: Some(ANNA) };
        assert_eq!(decide(0, &sudo).unwrap(), anna);
        assert_eq!(decide(0, &[("HOME", "/root"), ("DOAS_USER", "anna")]).unwrap(), anna);
    }

    #[test]
    fn without_them_it_is_who_runs_the_process() {
        let root = |home: &str| Caller { home: Some(home.into()), other: None };
        assert_eq!(decide(0, &[("HOME", "/h")]).unwrap(), root("/h"));
        assert_eq!(decide(0, &[]).unwrap(), root("/root"));
        assert_eq!(decide(0, &[("HOME", "/root"), ("DOAS_USER", "root")]).unwrap(), root("/root"));
        // sudo from root, and variables that somebody left behind.
        let sudo = [("HOME", "/root"), ("SUDO_UID", "0"), ("SUDO_GID", "0")];
        assert_eq!(decide(0, &sudo).unwrap(), root("/root"));
        assert_eq!(
            decide(1000, &[("HOME", "/h"), ("SUDO_UID", "5"), ("SUDO_GID", "5")]).unwrap(),
            root("/h")
        );
    }

    #[test]
    fn somebody_without_a_home_is_told_so_when_it_matters() {
        let nobody = decide(0, &[("HOME", "/root"), ("SUDO_UID", "7"), ("SUDO_GID", "7")]).unwrap();
        assert!(matches!(nobody.home(), Err(CallerError::NoHome)));
        assert!(matches!(decide(0, &[("DOAS_USER", "otto")]), Err(CallerError::Unknown(_))));
    }

    #[test]
    fn what_is_done_as_another_is_theirs_and_no_more() {
        let scratch = tempfile::tempdir().unwrap();
        let path = |name: &str| scratch.path().join(name);
        fs::create_dir(path("theirs")).unwrap();
        std::os::unix::fs::chown(path("theirs"), Some(1000), Some(1001)).unwrap();
        std::os::unix::fs::chown(scratch.path(), Some(1000), None).unwrap();
        fs::write(path("secret"), "root's").unwrap();
        fs::set_permissions(path("secret"), std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
        let anna = Caller { home: None, other: Some(ANNA) };
        anna.run(|| fs::write(path("theirs/file"), "x")).unwrap().unwrap();
        let made = fs::metadata(path("theirs/file")).unwrap();
        assert_eq!((made.uid(), made.gid()), (1000, 1001));
        let read = anna.run(|| fs::read(path("secret"))).unwrap();
        assert_eq!(read.unwrap_err().kind(), io::ErrorKind::PermissionDenied);
        assert!(fs::read(path("secret")).is_ok(), "this thread is who it was");
    }
}
