use std::process::ExitCode;

use kayak_core::audit::{Finding, Verdict};
use kayak_engine::asset_dir;
use kayak_engine::audit::{Audit, look};
use serde_json::json;

use super::preflight::require_root;
use crate::context::{Context, block_on};
use crate::error::CommandError;
use crate::report::{self, Output};

pub fn run(cx: &Context) -> Result<ExitCode, CommandError> {
    require_root()?;
    let cluster = asset_dir::read(&cx.dirs.assets(&cx.cluster_name()?))?.cluster;
    let audit = block_on(async { Ok(look(&cluster, cx.driver()?.as_ref()).await?) })?;
    let Audit { findings, guarded } = &audit;
    match cx.output {
        Output::Json => report::json(&json!({ "listeners": findings, "guarded": guarded }))?,
        Output::Text => report::table(&table(findings)),
    }
    verdict(&audit)
}

fn table(findings: &[Finding]) -> Vec<Vec<String>> {
    let header = ["NODE", "PROTOCOL", "ADDRESS", "OWNER", "PROGRAM", "VERDICT"];
    let row = |finding: &Finding| {
        let socket = &finding.socket;
        vec![
            finding.node.clone(),
            socket.protocol.to_string(),
            socket.address.to_string(),
            finding.owner(),
            socket.processes.first().map(|process| process.program.clone()).unwrap_or_default(),
            finding.verdict.to_string(),
        ]
    };
    std::iter::once(header.map(str::to_owned).into()).chain(findings.iter().map(row)).collect()
}

fn verdict(Audit { findings, guarded }: &Audit) -> Result<ExitCode, CommandError> {
    let outside = findings.iter().filter(|finding| finding.verdict == Verdict::Outside);
    let outside: Vec<_> =
        outside.map(|finding| format!("`{}` at {}", finding.owner(), finding.socket.address)).collect();
    if !outside.is_empty() {
        return Err(CommandError::failed(format!("reached elsewhere than the cluster should be: {}", outside.join(", ")))
            .hint("make it listen on the node's address (`status.hostIP` in a pod) or on 127.0.0.1, or take `hostNetwork` from the pod"));
    }
    if !guarded {
        return Err(CommandError::failed("the rules that keep others from the cluster's network are gone")
            .hint("something has emptied nftables; `kayak up` brings them back"));
    }
    Ok(ExitCode::SUCCESS)
}
