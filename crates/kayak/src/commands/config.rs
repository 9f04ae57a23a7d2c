mod stored;

use std::fs::OpenOptions;
use std::io::Write as _;
use std::process::ExitCode;

use camino::{Utf8Path, Utf8PathBuf};
use kayak_core::config;
use serde_json::json;

use crate::context::Context;
use crate::error::CommandError;
use crate::report::{self, Output};
use crate::wish::{Wish, read};

#[derive(clap::Subcommand)]
pub enum ConfigCommand {
    /// Print a configuration with every setting, its comment and its default
    Init {
        /// Write it into this file, which must not be there yet
        file: Option<Utf8PathBuf>,
    },
    /// Print the JSON schema of the configuration, for editors
    Schema,
    /// Tell all that is wrong with a configuration, and touch nothing
    Validate {
        /// The file; `-` is the standard input
        #[arg(default_value = "cluster.yaml")]
        file: Utf8PathBuf,
    },
    /// Print the configuration that the cluster was last brought up with, as it was written
    Show,
    Edit(stored::EditArgs),
    /// Show in what a file differs from what the cluster was last brought up with
    Diff {
        /// The file
        #[arg(default_value = "cluster.yaml")]
        file: Utf8PathBuf,
    },
}

#[derive(Debug, thiserror::Error)]
enum ConfigFileError {
    #[error("failed to write `{path}`")]
    Write { path: Utf8PathBuf, source: std::io::Error },
    #[error("failed to read the standard input")]
    Input(#[source] std::io::Error),
}

pub fn run(cx: &Context, command: ConfigCommand) -> Result<ExitCode, CommandError> {
    match command {
        ConfigCommand::Init { file: None } => report::data(&config::annotated()),
        ConfigCommand::Init { file: Some(file) } => init(&file)?,
        ConfigCommand::Schema => report::data(&serde_json::to_string_pretty(&config::schema())?),
        ConfigCommand::Validate { file } => validate(cx, &file)?,
        ConfigCommand::Show => return stored::show(cx),
        ConfigCommand::Edit(args) => return stored::edit(cx, &args),
        ConfigCommand::Diff { file } => return stored::diff(cx, &file),
    }
    Ok(ExitCode::SUCCESS)
}

fn init(file: &Utf8Path) -> Result<(), CommandError> {
    let write = |source| ConfigFileError::Write { path: file.to_owned(), source };
    let mut to = match OpenOptions::new().write(true).create_new(true).open(file) {
        Ok(to) => to,
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {
            return Err(CommandError::usage(format!("`{file}` is there already"))
                .hint("name another file; nothing was written"));
        }
        Err(error) => return Err(write(error).into()),
    };
    to.write_all(config::annotated().as_bytes()).map_err(write)?;
    report::note(&format!("wrote {file}"));
    report::hint(&format!("edit it, then `kayak up --config {file}`"));
    Ok(())
}

fn validate(cx: &Context, file: &Utf8Path) -> Result<(), CommandError> {
    // As many tools do, `-` names the standard input.
    let text = match file.as_str() {
        "-" => std::io::read_to_string(std::io::stdin()).map_err(ConfigFileError::Input)?,
        _ => read(file).map_err(CommandError::of_usage)?,
    };
    let config = Wish::parse(cx, text, file.as_str())?.config;
    match cx.output {
        Output::Json => report::json(&json!({ "name": config.name, "findings": [] }))?,
        Output::Text => report::note(&format!("{file}: nothing is wrong with cluster `{}`", config.name)),
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::fs;

    use kayak_core::config;

    #[test]
    fn the_reference_is_up_to_date() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/configuration.md");
        if std::env::var_os("KAYAK_UPDATE_DOCS").is_some() {
            fs::write(path, config::reference()).unwrap();
        }
        let is_same = fs::read_to_string(path).unwrap() == config::reference();
        assert!(is_same, "run KAYAK_UPDATE_DOCS=1 cargo test --release -p kayak --bin kayak reference");
    }
}
