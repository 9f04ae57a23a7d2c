mod person;

pub use person::lifetime;

use std::fs;
use std::net::IpAddr;
use std::process::ExitCode;

use camino::{Utf8Path, Utf8PathBuf};
use kayak_core::assets::KUBECONFIG;
use kayak_core::cluster::API_PORT;
use kayak_core::kubeconfig::entry::{Entry, EntryError, without};
use kayak_engine::keystore::server_names;
use serde_json::json;

use super::preflight::require_root;
use crate::caller::Caller;
use crate::context::Context;
use crate::error::CommandError;
use crate::own_file;
use crate::report::{self, Output};

/// Put the cluster into your kubeconfig, or make one for somebody else
///
/// Without options, cluster, user and context `kayak-NAME` are put into the first file of
/// `$KUBECONFIG`, or into `~/.kube/config`, of whoever calls (behind sudo and doas too); earlier ones
/// of that name are replaced, all else is kept. The current context is switched only if none was set.
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  sudo kayak kubeconfig --use
  kayak kubeconfig --server home.example --print
  kayak kubeconfig --for anna --role edit --namespace web -o anna.kubeconfig")]
#[group(skip)]
pub struct KubeconfigArgs {
    /// Switch to the cluster's context
    #[arg(long = "use", conflicts_with_all = ["print", "path", "remove", "person"])]
    switch: bool,

    /// Print a kubeconfig instead
    #[arg(long, conflicts_with_all = ["path", "remove", "person"])]
    print: bool,

    /// Print where the administrator's own kubeconfig is instead
    #[arg(long, conflicts_with_all = ["remove", "person", "server"])]
    path: bool,

    /// Take the cluster out of your kubeconfig again; it need not be there any more
    #[arg(long, conflicts_with_all = ["person", "server"])]
    remove: bool,

    /// Reach the API by this name or address, one of those in its certificate
    #[arg(long, value_name = "NAME|ADDRESS")]
    server: Option<String>,

    #[command(flatten)]
    person: person::PersonArgs,
}

#[derive(Debug, thiserror::Error)]
enum KubeconfigError {
    #[error("failed to read `{path}`")]
    Read { path: Utf8PathBuf, source: std::io::Error },
    #[error("`{path}` is no kubeconfig")]
    Entry { path: Utf8PathBuf, source: EntryError },
}

pub fn run(cx: &Context, args: &KubeconfigArgs) -> Result<ExitCode, CommandError> {
    if args.remove {
        return remove(cx);
    }
    require_root()?;
    let cluster = cx.cluster_name()?;
    let path = cx.dirs.assets(&cluster).join(KUBECONFIG);
    if args.path {
        match cx.output {
            Output::Text => report::data(path.as_str()),
            Output::Json => report::json(&json!({ "path": path }))?,
        }
        return Ok(ExitCode::SUCCESS);
    }
    let admin = read(&path)?;
    let entry =
        Entry::new(entry_name(&cluster), &admin).map_err(|source| KubeconfigError::Entry { path, source })?;
    let entry = match &args.server {
        Some(server) => entry.at(&url(cx, &cluster, server)?),
        None => entry,
    };
    if args.person.is_asked_for() {
        return person::run(cx, &cluster, &admin, entry, &args.person);
    }
    if args.print {
        print(cx, &entry)?;
        return Ok(ExitCode::SUCCESS);
    }
    merge(cx, &cluster, &entry, args.switch)
}

/// The name of what is put into somebody's kubeconfig.
fn entry_name(cluster: &str) -> String {
    format!("kayak-{cluster}")
}

/// Prints a kubeconfig: the one thing for whose sake secrets go to standard output.
fn print(cx: &Context, entry: &Entry) -> Result<(), CommandError> {
    match cx.output {
        Output::Text => report::data(entry.alone().expose()),
        Output::Json => report::json(&json!({ "kubeconfig": entry.alone().expose() }))?,
    }
    Ok(())
}

/// The API's address by another name: one that its certificate would not prove is refused here, with
/// a better reason than a client would give.
fn url(cx: &Context, cluster: &str, server: &str) -> Result<String, CommandError> {
    let names = server_names(&read(&cx.dirs.assets(cluster).join("tls/kube-apiserver.crt"))?);
    let address = server.parse::<IpAddr>().ok();
    // There are many ways to write an address.
    let wanted = address.map_or_else(|| server.to_lowercase(), |address| address.to_string());
    if !names.contains(&wanted) {
        let known = names.join(", ");
        return Err(CommandError::usage(format!("the API's certificate is not for `{server}`, but for {known}"))
            .hint("add it to `api.extraNames` or `api.extraAddresses` of the configuration and run `kayak up`; nothing was changed"));
    }
    Ok(match address {
        Some(IpAddr::V6(address)) => format!("https://[{address}]:{API_PORT}"),
        _ => format!("https://{wanted}:{API_PORT}"),
    })
}

fn merge(cx: &Context, cluster: &str, entry: &Entry, switch: bool) -> Result<ExitCode, CommandError> {
    let (caller, path) = own_file()?;
    let mut current = false;
    caller.run(|| {
        own_file::change(&path, |text| {
            let merged = entry.merged_into(text, switch).map_err(|e| refused(&path, e))?;
            current = merged.current;
            Ok::<_, CommandError>(Some(merged.text))
        })
    })??;
    let context = entry_name(cluster);
    match cx.output {
        Output::Json => report::json(&json!({ "file": path, "context": context, "current": current }))?,
        Output::Text if current => report::note(&format!("`{path}` has the cluster; `kubectl` speaks to it")),
        Output::Text => report::note(&format!(
            "`{path}` has the cluster as `{context}`; another one is current: `kubectl --context {context} …`, or `kayak kubeconfig --use`"
        )),
    }
    Ok(ExitCode::SUCCESS)
}

fn remove(cx: &Context) -> Result<ExitCode, CommandError> {
    let name = entry_name(&cx.cluster_name_or("kayak")?);
    let (caller, path) = own_file()?;
    let there = caller.run(|| path.exists())?;
    let removed = there
        && caller
            .run(|| own_file::change(&path, |text| without(&name, text).map_err(|e| refused(&path, e))))??;
    match cx.output {
        Output::Json => report::json(&json!({ "file": path, "context": name, "removed": removed }))?,
        Output::Text if removed => report::note(&format!("`{name}` is gone from `{path}`")),
        Output::Text => report::note(&format!("`{path}` has no `{name}`")),
    }
    Ok(ExitCode::SUCCESS)
}

/// The caller, and the file that kubectl would change for them.
fn own_file() -> Result<(Caller, Utf8PathBuf), CommandError> {
    let caller = Caller::of_process()?;
    let listed = std::env::var("KUBECONFIG").unwrap_or_default();
    let path = match listed.split(':').find(|path| !path.is_empty()) {
        Some(first) => first.into(),
        None => caller.home()?.join(".kube/config"),
    };
    Ok((caller, path))
}

/// A file that somebody has to look at first.
fn refused(path: &Utf8Path, source: EntryError) -> CommandError {
    CommandError::from(KubeconfigError::Entry { path: path.to_owned(), source })
        .of_usage()
        .hint("nothing was changed; mend the file, or take `kayak kubeconfig --print`")
}

fn read(path: &Utf8Path) -> Result<String, KubeconfigError> {
    fs::read_to_string(path).map_err(|source| KubeconfigError::Read { path: path.to_owned(), source })
}
