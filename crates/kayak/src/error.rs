//! The one place where errors become what the user reads and the exit code that scripts see.

use std::error::Error;
use std::process::ExitCode;

use kayak_bundle::BuildError;
use kayak_core::chain::chain;
use kayak_core::cluster::ResolveError;
use kayak_core::config::ConfigError;
use kayak_engine::asset_dir::AssetDirError;
use kayak_engine::drain::DrainError;
use kayak_engine::execute::ExecuteError;
use kayak_engine::join::{AuthorityError, JoinError};

use crate::caller::CallerError;
use crate::own_file::FileError;
use crate::report;

/// Whose fault it is, which is also the exit code.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// The cluster or the machine would not.
    Failed = 1,
    /// Command line or configuration; nothing was touched. (clap itself exits with 2.)
    Usage = 2,
}

/// An error on its way to the user.
#[derive(Debug)]
pub struct CommandError {
    kind: Kind,
    source: Box<dyn Error + Send + Sync>,
    hints: Vec<String>,
}

impl CommandError {
    /// An error of the user's making.
    pub fn usage(message: impl Into<String>) -> Self {
        Self { kind: Kind::Usage, source: message.into().into(), hints: Vec::new() }
    }

    /// An error of the cluster's or the machine's.
    pub fn failed(message: impl Into<String>) -> Self {
        Self { kind: Kind::Failed, ..Self::usage(message) }
    }

    /// Blames the user, who named something that is not as it should be; nothing was touched.
    pub fn of_usage(self) -> Self {
        Self { kind: Kind::Usage, ..self }
    }

    /// Adds what the user can do about it.
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hints.push(hint.into());
        self
    }

    /// What is said first.
    #[cfg(test)]
    pub fn message(&self) -> String {
        self.source.to_string()
    }

    /// Returns the error and its causes on one line.
    pub fn line(&self) -> String {
        chain(self.source.as_ref())
    }

    /// Prints the error, its causes and its hints, and returns the exit code.
    pub fn print(&self) -> ExitCode {
        match self.source.downcast_ref::<ConfigError>() {
            Some(error) => report::findings(error),
            None => report::error(&self.source.to_string()),
        }
        let mut cause = self.source.source();
        while let Some(error) = cause {
            report::cause(&error.to_string());
            cause = error.source();
        }
        for hint in &self.hints {
            report::hint(hint);
        }
        ExitCode::from(self.kind as u8)
    }
}

impl<E: Error + Send + Sync + 'static> From<E> for CommandError {
    fn from(error: E) -> Self {
        let source: Box<dyn Error + Send + Sync> = Box::new(error);
        let (kind, hints) = advise(source.as_ref());
        Self { kind, source, hints }
    }
}

/// Every kind of error that there is something to do about.
fn advise(error: &(dyn Error + Send + Sync + 'static)) -> (Kind, Vec<String>) {
    if error.is::<ConfigError>() {
        return (Kind::Usage, vec!["nothing was touched; correct the file and run the command again".into()]);
    }
    if error.is::<ResolveError>() {
        let hints = [
            "nothing was touched; correct the configuration, or bring the interface up, and run the command again",
            "`ip address` shows the interfaces and their addresses",
        ];
        return (Kind::Usage, hints.map(str::to_owned).into());
    }
    if let Some(refused) = error.downcast_ref::<JoinError>() {
        return (Kind::Usage, vec![join(refused).into(), "nothing was changed on this machine".into()]);
    }
    if let Some(build) = error.downcast_ref::<BuildError>() {
        let packages: Vec<_> = build.packages_to_install().into_iter().collect();
        let hint = if packages.is_empty() {
            "what was built is kept; run `kayak bundle build` again".to_owned()
        } else {
            format!("install them: `apt-get install {}`", packages.join(" "))
        };
        return (Kind::Failed, vec![hint]);
    }
    if let Some(AssetDirError::Assets { .. }) = error.downcast_ref() {
        return (Kind::Usage, Vec::new());
    }
    if let Some(file) = error.downcast_ref::<FileError>() {
        let hint = match file {
            FileError::Locked(lock) => format!("the file was left as it is; if nobody does, remove `{lock}`"),
            FileError::Read { .. }
            | FileError::Make { .. }
            | FileError::Write { .. }
            | FileError::Circle(_) => {
                "the file was left as it is; is it somebody else's? `kayak kubeconfig --print` needs none"
                    .into()
            }
        };
        return (Kind::Failed, vec![hint]);
    }
    if let Some(CallerError::NoHome) = error.downcast_ref() {
        let hint = "nothing was changed; name a file of your own: `KUBECONFIG=FILE kayak kubeconfig`";
        return (Kind::Failed, vec![hint.into()]);
    }
    if error.is::<DrainError>() || matches!(error.downcast_ref(), Some(ExecuteError::Drain(_))) {
        let hints = [
            "no new pods come to the node, and none was deleted against its budget; the same command goes on from here",
            "`kayak kubectl uncordon NODE` lets pods come again; a budget that can never be met has to be changed, or \
             its pods deleted",
        ];
        return (Kind::Failed, hints.map(str::to_owned).into());
    }
    if let Some(ExecuteError::Gate(_)) = error.downcast_ref() {
        return (
            Kind::Failed,
            vec![
                "what runs was left running; the same command goes on from here".into(),
                "look closer with `kayak node ps NODE` and `kayak node logs NODE kubelet`".into(),
            ],
        );
    }
    (Kind::Failed, Vec::new())
}

/// What helps a machine that could not join.
fn join(refused: &JoinError) -> &'static str {
    const TOKEN: &str = "make another one where the cluster is: `kayak token create`";
    match refused {
        JoinError::Authority(AuthorityError::Unreachable { .. })
        | JoinError::Ask { .. }
        | JoinError::Api(_) => {
            "does this machine reach the address, and is the cluster up? There, `kayak status` tells"
        }
        JoinError::Authority(AuthorityError::WrongHash { .. }) => {
            "compare the whole line with what `kayak token create` prints where the cluster is"
        }
        JoinError::Authority(AuthorityError::Untrusted { .. }) => {
            "is this machine's clock right? `date` tells"
        }
        JoinError::Authority(AuthorityError::Setup(_)) | JoinError::Request(..) => "this is a bug in kayak",
        JoinError::Token | JoinError::Foreign => TOKEN,
        JoinError::WorkersOnly => {
            "leave `--controller` out, or make another token where the cluster is: `kayak token create --controller`"
        }
        JoinError::Clock { .. } | JoinError::NoTime(_) => {
            "set the clocks by the network (NTP), and try again"
        }
        JoinError::Skew(_) => "take the kayak that the cluster was made with",
        JoinError::Invitation(_) => "take the kayak that the cluster was brought up with",
        JoinError::NotInvited => {
            "where the cluster is, write `join: true` into its configuration; then `kayak up`"
        }
        JoinError::Taken { .. } => {
            "take another name: `--name NAME`; or wait a minute, if the one that had it is gone for good"
        }
        JoinError::Denied { .. } => {
            "the reason is told by the controllers' agents; `--name NAME` takes another name"
        }
        JoinError::Undecided { .. } => "where the cluster is, `kayak status` tells what does not run",
    }
}
