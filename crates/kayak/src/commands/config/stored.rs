//! The configuration that a cluster was last brought up with: shown, compared, edited.

use std::fs;
use std::process::{Command, ExitCode, ExitStatus};

use camino::{Utf8Path, Utf8PathBuf};
use kayak_core::plan::Named;
use kayak_engine::stored::Stored;
use serde_json::json;
use similar::TextDiff;

use crate::commands::up::{BringUpArgs, Doing, begin, bring_up};
use crate::commands::{plan, preflight};
use crate::context::{Context, block_on};
use crate::error::CommandError;
use crate::report::{self, Output};
use crate::wish::{Wish, read, stored};

/// Edit what the cluster is made from in your editor, see what would change, and apply it
#[derive(clap::Args)]
pub struct EditArgs {
    /// Do not ask before applying
    #[arg(short, long)]
    yes: bool,

    #[command(flatten)]
    how: BringUpArgs,
}

#[derive(Debug, thiserror::Error)]
enum EditError {
    #[error("failed to write `{path}` for the editor")]
    Write { path: Utf8PathBuf, source: std::io::Error },
    #[error("failed to keep `{path}`, which an earlier edit left, as `{kept}`")]
    Keep { path: Utf8PathBuf, kept: Utf8PathBuf, source: std::io::Error },
    #[error("failed to start the editor `{0}`")]
    Start(String, #[source] std::io::Error),
    #[error("the editor `{0}` ended with {1}")]
    Ended(String, ExitStatus),
}

/// Prints the configuration as it was written.
pub fn show(cx: &Context) -> Result<ExitCode, CommandError> {
    let Stored { text, place, .. } = found(cx)?;
    match cx.output {
        Output::Json => report::json(&json!({ "place": place, "text": text }))?,
        Output::Text => report::data(&text),
    }
    Ok(ExitCode::SUCCESS)
}

/// Prints in what a file differs from the configuration that is stored.
pub fn diff(cx: &Context, file: &Utf8Path) -> Result<ExitCode, CommandError> {
    let new = read(file).map_err(CommandError::of_usage)?;
    let Stored { text: old, place, .. } = found(cx)?;
    let diff = unified(&old, &new, &place, file.as_str());
    match cx.output {
        Output::Json => report::json(&json!({ "place": place, "file": file, "diff": diff }))?,
        Output::Text if diff.is_empty() => report::note(&format!("{file} is what {place} holds")),
        Output::Text => report::data(&diff),
    }
    Ok(ExitCode::SUCCESS)
}

/// Gives the configuration to the owner's editor, and brings the cluster up with what comes back. What was
/// written is never lost: where it is refused, its file stays, and the next edit takes it up or sets it
/// aside.
pub fn edit(cx: &Context, args: &EditArgs) -> Result<ExitCode, CommandError> {
    preflight::require_root()?;
    let Stored { text, .. } = found(cx)?;
    let name = cx.cluster_name()?;
    let path = cx.dirs.cluster(&name).join("edited.yaml");
    if !takes_up(&path, &text, args.yes)? {
        fs::write(&path, &text).map_err(|source| EditError::Write { path: path.clone(), source })?;
    }
    open_editor(&path)?;
    let edited = read(&path)?;
    if edited == text {
        forget(&path);
        report::note("nothing was edited");
        return Ok(ExitCode::SUCCESS);
    }
    let kept = |error: CommandError| error.hint(format!("what you wrote is in {path}; nothing was changed"));
    let cx = Context::new(cx.output, Some(name));
    let wish = Wish::parse(&cx, edited.clone(), path.as_str()).map_err(kept)?;
    let wish = Wish { given: true, ..wish };
    if !args.yes {
        report::note(&unified(&text, &edited, "stored", "edited"));
        block_on(plan::show(&cx, &wish, &Named::default(), true))?;
        if !report::confirm("Apply this?") {
            return Err(kept(CommandError::usage("nothing was applied").hint("in scripts, use `--yes`")));
        }
    }
    let lock = begin(&cx, &wish.resolve()?, &args.how)?;
    // An editor may be open for days; from here on no other kayak changes it.
    if found(&cx)?.text != text {
        let message = "somebody has changed the stored configuration since your edit began";
        return Err(kept(CommandError::usage(message).hint(format!(
            "`kayak config diff {path}` shows in what it differs now; put theirs in, then `kayak up --config {path}`"
        ))));
    }
    let mut named = Named::default();
    let rendering = wish.render_kept(&cx, &mut named)?;
    let doing = Doing { how: &args.how, named: &named, planned: None };
    let done = bring_up(&cx, rendering, &doing, &lock)
        .map_err(|error| error.hint(format!("what you wrote is in {path}: `kayak up --config {path}`")))?;
    forget(&path);
    Ok(done)
}

/// Whether to go on with what an earlier edit left, which differs from what is stored. If not, that is
/// set aside under a name of its own.
fn takes_up(path: &Utf8Path, stored: &str, unasked: bool) -> Result<bool, CommandError> {
    if !path.exists() || read(path)? == stored {
        return Ok(false);
    }
    if !unasked && report::confirm(&format!("An earlier edit was not applied: {path}. Go on with it?")) {
        return Ok(true);
    }
    let kept = set_aside(path)?;
    report::note(&format!("an earlier edit, which was not applied, is now in {kept}"));
    Ok(false)
}

/// Gives a file the first name that is free, and says which.
fn set_aside(path: &Utf8Path) -> Result<Utf8PathBuf, EditError> {
    let mut names = (1_u32..).map(|number| path.with_extension(format!("{number}.yaml")));
    let kept = names.find(|name| !name.exists()).unwrap_or_else(|| path.with_extension("old.yaml"));
    match fs::rename(path, &kept) {
        Ok(()) => Ok(kept),
        Err(source) => Err(EditError::Keep { path: path.to_owned(), kept, source }),
    }
}

fn found(cx: &Context) -> Result<Stored, CommandError> {
    block_on(stored(cx))?.ok_or_else(|| {
        CommandError::usage("there is no cluster whose configuration is stored")
            .hint("`kayak config init` writes one to begin with")
    })
}

fn unified(old: &str, new: &str, old_name: &str, new_name: &str) -> String {
    TextDiff::from_lines(old, new).unified_diff().header(old_name, new_name).to_string()
}

/// Runs the editor by the shell, since what the variable names may have arguments.
fn open_editor(path: &Utf8Path) -> Result<(), EditError> {
    let variable = |name| std::env::var(name).ok().filter(|value| !value.is_empty());
    let editor = variable("VISUAL").or_else(|| variable("EDITOR")).unwrap_or_else(|| "vi".into());
    let status = Command::new("sh")
        .args(["-c", &format!("{editor} \"$1\""), "sh", path.as_str()])
        .status()
        .map_err(|source| EditError::Start(editor.clone(), source))?;
    if status.success() { Ok(()) } else { Err(EditError::Ended(editor, status)) }
}

fn forget(path: &Utf8Path) {
    if let Err(error) = fs::remove_file(path) {
        tracing::warn!("failed to remove `{path}`: {error}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_an_earlier_edit_left_is_not_written_over() {
        let scratch = tempfile::tempdir().unwrap();
        let path = Utf8Path::from_path(scratch.path()).unwrap().join("edited.yaml");
        assert!(!takes_up(&path, "stored", true).unwrap());
        for (edit, kept) in [("one", "edited.1.yaml"), ("two", "edited.2.yaml")] {
            fs::write(&path, edit).unwrap();
            assert!(!takes_up(&path, "stored", true).unwrap());
            assert_eq!(fs::read_to_string(path.with_file_name(kept)).unwrap(), edit);
        }
        fs::write(&path, "stored").unwrap();
        assert!(!takes_up(&path, "stored", true).unwrap());
        assert!(path.exists(), "nothing of anybody's is in it");
    }
}
