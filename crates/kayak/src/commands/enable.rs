use std::process::ExitCode;

use clap::ValueEnum;
use kayak_core::boot;
use kayak_engine::asset_dir;
use serde_json::json;

use super::preflight::require_root;
use crate::boot::Unit;
use crate::context::Context;
use crate::error::CommandError;
use crate::report::{self, Output};

/// Let the machine start the cluster at boot
///
/// Writes one file and the link that enables it: with systemd,
/// /etc/systemd/system/kayak-NAME.service and its link in multi-user.target.wants; with OpenRC,
/// /etc/init.d/kayak-NAME and its link in /etc/runlevels/default. They run `kayak resume` and
/// `kayak stop` from a copy of this kayak, which is kept beside the cluster's data. Run it again
/// after updating kayak. Nothing is started or stopped now; `kayak disable` takes all of it back.
#[derive(clap::Args)]
pub struct EnableArgs {
    /// What starts the machine's services; found out by default
    #[arg(long, value_enum, value_name = "INIT")]
    init: Option<Init>,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Init {
    Systemd,
    Openrc,
}

impl From<Init> for boot::Init {
    fn from(init: Init) -> Self {
        match init {
            Init::Systemd => Self::Systemd,
            Init::Openrc => Self::Openrc,
        }
    }
}

pub fn run(cx: &Context, args: &EnableArgs) -> Result<ExitCode, CommandError> {
    require_root()?;
    let name = cx.cluster_name()?;
    // What could not be resumed is not to be tried at every boot.
    asset_dir::read(&cx.dirs.assets(&name))?;
    let found = || boot::Init::ALL.into_iter().find(|init| init.mark().is_dir());
    let Some(init) = args.init.map(Into::into).or_else(found) else {
        return Err(CommandError::usage("neither systemd nor OpenRC runs this machine; nothing was changed")
            .hint(format!("let what starts it run `kayak --cluster {name} resume`"))
            .hint("name the one that will run it with `--init`"));
    };
    let _lock = cx.lock(&name)?;
    let written = Unit::of(init, &cx.dirs, &name)?.write()?;
    match cx.output {
        Output::Json => report::json(&json!({ "cluster": name, "written": written }))?,
        Output::Text if written.is_empty() => report::note(&format!("cluster `{name}` was enabled already")),
        Output::Text => {
            report::note(&format!("cluster `{name}` starts at boot; wrote"));
            for path in &written {
                report::data(path.as_str());
            }
        }
    }
    Ok(ExitCode::SUCCESS)
}
