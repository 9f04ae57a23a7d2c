//! A kubeconfig for somebody else, with a certificate of their own.

use std::process::ExitCode;

use camino::{Utf8Path, Utf8PathBuf};
use kayak_core::kubeconfig::entry::Entry;
use kayak_core::object::Object;
use kayak_core::person::{Person, Role};
use kayak_engine::{api, asset_dir, keystore};
use serde_json::json;
use time::format_description::well_known::Rfc3339;
use time::{Duration, OffsetDateTime};

use crate::caller::Caller;
use crate::context::{Context, block_on};
use crate::error::CommandError;
use crate::own_file;
use crate::report::{self, Output};

#[derive(clap::Args)]
pub struct PersonArgs {
    /// Print a kubeconfig for this person, with a certificate of their own
    #[arg(long = "for", id = "person", value_name = "PERSON")]
    name: Option<String>,

    /// A group that the certificate puts them in; may be repeated
    #[arg(long = "group", value_name = "GROUP", requires = "person")]
    groups: Vec<String>,

    /// How long the certificate lasts, as `30d`, `12h`, `90m` or `45s`; its CA ends it at the latest
    #[arg(long, value_name = "TIME", requires = "person", default_value = "365d", value_parser = lifetime)]
    lifetime: Duration,

    /// What they may do, beyond what their groups may: given by a binding `kayak:user:PERSON`
    #[arg(long, requires = "person", value_parser = role, value_name = "view|edit|admin|cluster-admin")]
    role: Option<Role>,

    /// Where they may do it; everywhere if absent
    #[arg(long, value_name = "NAMESPACE", requires = "person")]
    namespace: Option<String>,

    /// Write the kubeconfig into this file, for nobody else to read
    #[arg(short = 'o', long = "file", value_name = "FILE", requires = "person")]
    file: Option<Utf8PathBuf>,
}

impl PersonArgs {
    /// Whether a kubeconfig for somebody else is asked for.
    pub fn is_asked_for(&self) -> bool {
        self.name.is_some()
    }
}

fn role(name: &str) -> Result<Role, String> {
    let names = Role::ALL.map(Role::name).join(", ");
    Role::ALL.into_iter().find(|role| role.name() == name).ok_or_else(|| format!("one of {names}"))
}

pub fn lifetime(text: &str) -> Result<Duration, String> {
    let refused = || "a number above zero and `d`, `h`, `m` or `s`, such as `30d`".to_owned();
    let unit = text.chars().last().ok_or_else(refused)?;
    let seconds = match unit {
        'd' => 86_400,
        'h' => 3_600,
        'm' => 60,
        's' => 1,
        _ => return Err(refused()),
    };
    let number: i64 = text.strip_suffix(unit).unwrap_or(text).parse().map_err(|_| refused())?;
    // More than this is more than any CA's time, and would not fit into a date.
    let total = number.checked_mul(seconds).filter(|total| (1..=86_400 * 365_000).contains(total));
    total.map(Duration::seconds).ok_or_else(refused)
}

/// Issues the certificate; `admin` is the kubeconfig by which the role is given.
pub fn run(
    cx: &Context,
    cluster: &str,
    admin: &str,
    entry: Entry,
    args: &PersonArgs,
) -> Result<ExitCode, CommandError> {
    let directory = cx.dirs.assets(cluster);
    let person = Person {
        name: args.name.clone().unwrap_or_default(),
        groups: args.groups.clone(),
        role: args.role,
        namespace: args.namespace.clone(),
    };
    let problems = person.problems(&asset_dir::read(&directory)?.cluster);
    if !problems.is_empty() {
        return Err(CommandError::usage(problems.join("\n")).hint(
            "no certificate was issued; whoever is to do everything gets `--role cluster-admin`, which can be taken away again",
        ));
    }
    // The rights first: if they cannot be given, nobody holds a certificate yet.
    if let Some(binding) = person.binding() {
        give(admin, &binding)?;
    }
    let store = asset_dir::read_keys(&directory)?;
    let now = OffsetDateTime::now_utc();
    let (pair, end) = keystore::issue(&person.certificate(), &store, now, args.lifetime)?;
    let entry = entry.as_client(&pair);
    let entry = match &args.namespace {
        Some(namespace) => entry.in_namespace(namespace.clone()),
        None => entry,
    };
    hand_over(cx, &entry, &person, end, args.file.as_deref())
}

fn give(admin: &str, binding: &Object) -> Result<(), CommandError> {
    let given = block_on(async {
        let client = api::client(admin).await?;
        Ok(api::give(&client, binding).await)
    });
    let failed = match given {
        Ok(Ok(())) => return Ok(()),
        Ok(Err(error)) if error.lacks_namespace() => return Err(no_namespace(binding)),
        Ok(Err(error)) => error.into(),
        Err(error) => error,
    };
    Err(failed.hint(format!(
        "no certificate was issued; a role that was given before is taken away by `kayak kubectl delete {}`",
        named(binding)
    )))
}

fn no_namespace(binding: &Object) -> CommandError {
    let name = binding.id().namespace.unwrap_or_default();
    CommandError::usage(format!("there is no namespace `{name}` to give rights in")).hint(format!(
        "make it by `kayak kubectl create namespace {name}`, or name another one; no certificate was issued"
    ))
}

/// An object as kubectl's arguments.
fn named(object: &Object) -> String {
    let id = object.id();
    let namespace = id.namespace.map(|namespace| format!(" -n {namespace}")).unwrap_or_default();
    format!("{} {}{namespace}", id.kind.to_lowercase(), id.name)
}

fn hand_over(
    cx: &Context,
    entry: &Entry,
    person: &Person,
    end: OffsetDateTime,
    file: Option<&Utf8Path>,
) -> Result<ExitCode, CommandError> {
    if let Some(file) = file {
        Caller::of_process()?.run(|| own_file::write(file, entry.alone().expose().as_bytes()))??;
    }
    let until = end.format(&Rfc3339)?;
    if cx.output == Output::Json {
        let text = if file.is_none() { Some(entry.alone().expose().to_owned()) } else { None };
        report::json(&json!({
            "person": person.name, "groups": person.groups, "role": person.role.map(Role::name),
            "namespace": person.namespace, "until": until, "file": file, "kubeconfig": text,
        }))?;
        return Ok(ExitCode::SUCCESS);
    }
    if file.is_none() {
        report::data(entry.alone().expose());
    }
    let written = file.map(|file| format!("wrote {file}: ")).unwrap_or_default();
    report::note(&format!("{written}the certificate of `{}` lasts until {until}", person.name));
    report::hint(&match person.binding() {
        Some(binding) => format!(
            "it cannot be called back before, but what it may do can: `kayak kubectl delete {}`",
            named(&binding)
        ),
        None => "it cannot be called back before; what it may do, a RoleBinding says, or `--role`".into(),
    });
    Ok(ExitCode::SUCCESS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lifetimes_are_read_with_their_unit() {
        assert_eq!(lifetime("30d"), Ok(Duration::days(30)));
        assert_eq!(lifetime("12h"), Ok(Duration::hours(12)));
        assert_eq!(lifetime("1s"), Ok(Duration::SECOND));
        for wrong in ["", "30", "d", "0d", "-1d", "1w", "1dd", "99999999999999999d", "9999999999d"] {
            assert!(lifetime(wrong).is_err(), "{wrong}");
        }
    }
}
