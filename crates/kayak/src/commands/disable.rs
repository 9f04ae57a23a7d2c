use std::process::ExitCode;

use serde_json::json;

use super::preflight::require_root;
use crate::boot::remove_units;
use crate::context::Context;
use crate::error::CommandError;
use crate::report::{self, Output};

pub fn run(cx: &Context) -> Result<ExitCode, CommandError> {
    require_root()?;
    let name = cx.cluster_name()?;
    let _lock = cx.lock(&name)?;
    let removed = remove_units(&cx.dirs, &name)?;
    match cx.output {
        Output::Json => report::json(&json!({ "cluster": name, "removed": removed }))?,
        Output::Text if removed.is_empty() => report::note(&format!("cluster `{name}` was not enabled")),
        Output::Text => report::note(&format!("cluster `{name}` does not start at boot any more")),
    }
    Ok(ExitCode::SUCCESS)
}
