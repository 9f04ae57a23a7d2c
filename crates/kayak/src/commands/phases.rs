use std::process::ExitCode;

use kayak_core::plan::PhaseId;
use serde_json::json;

use crate::context::Context;
use crate::error::CommandError;
use crate::report::{self, Output};

pub fn run(cx: &Context) -> Result<ExitCode, CommandError> {
    match cx.output {
        Output::Json => {
            let phases = PhaseId::ALL.map(|phase| {
                json!({ "phase": phase, "title": phase.title(), "why": phase.why(), "byHand": phase.by_hand() })
            });
            report::json(&phases)?;
        }
        Output::Text => {
            for phase in PhaseId::ALL {
                report::data(&format!("{phase}: {}\n  {}", phase.title(), phase.why()));
                for command in phase.by_hand() {
                    report::data(&format!("    {command}"));
                }
            }
        }
    }
    Ok(ExitCode::SUCCESS)
}
