use std::fmt::Write as _;
use std::process::ExitCode;
use std::time::Duration;

use camino::Utf8PathBuf;
use kayak_bundle::Catalog;
use kayak_engine::cluster::ClusterHandle;
use kayak_engine::support::{Archive, Finished, Scrubber, Sources};
use kayak_engine::{asset_dir, status};
use serde_json::json;
use time::OffsetDateTime;

use super::plan;
use super::preflight::require_root;
use crate::caller::Caller;
use crate::context::{Context, block_on};
use crate::error::CommandError;
use crate::own_file;
use crate::report::{self, Output, Progress};

/// How long status and plan may take each, with a cluster that half answers.
const PATIENCE: Duration = Duration::from_secs(30);

/// Write all that is needed to find out what is wrong into one archive, without secrets
///
/// Versions, configuration, status, plan, logs of units and components from the nodes' disks, what
/// agents, runtimes and the API tell, and the machine's network and control groups. It works with the
/// API down and with nodes stopped: what cannot be had is named in `errors.txt`.
#[derive(clap::Args)]
#[command(after_help = "Look into it before you give it away: tar --zstd -tvf kayak-support-….tar.zst")]
pub struct SupportArgs {
    /// The archive; a name with the time in this directory if absent
    #[arg(short = 'o', long = "file", value_name = "FILE")]
    file: Option<Utf8PathBuf>,
}

#[derive(Debug, thiserror::Error)]
#[error("failed to put the archive together")]
struct ArchiveError(#[source] std::io::Error);

pub fn run(cx: &Context, args: &SupportArgs) -> Result<ExitCode, CommandError> {
    require_root()?;
    let cluster = cx.cluster_name_or("kayak")?;
    let now = OffsetDateTime::now_utc();
    let root = format!("kayak-support-{cluster}-{}", stamp(now));
    let progress = Progress::new(cx.output);
    let finished = block_on(collect(cx, cluster, root.clone(), now))?;
    progress.finish();
    let file = args.file.clone().unwrap_or_else(|| format!("{root}.tar.zst").into());
    Caller::of_process()?.run(|| own_file::write(&file, &finished.bytes))??;
    tell(cx, &file, &finished)?;
    Ok(ExitCode::SUCCESS)
}

async fn collect(
    cx: &Context,
    cluster: String,
    root: String,
    now: OffsetDateTime,
) -> Result<Finished, CommandError> {
    let sources = Sources {
        assets: cx.dirs.assets(&cluster),
        kubectl: cx.dirs.cluster(&cluster).join("bin/kubectl"),
        driver: cx.driver()?,
        cluster,
    };
    let (scrubber, unknown) = match sources.scrubber().await {
        Ok(scrubber) => (scrubber, None),
        Err(because) => (Scrubber::default(), Some(because)),
    };
    let time = u64::try_from(now.unix_timestamp()).unwrap_or_default();
    let mut archive = Archive::new(root, time, scrubber).map_err(ArchiveError)?;
    if let Some(because) = unknown {
        archive.lacks("the cluster's keys", &format!("they could not be looked for: {because}"));
    }
    let parts = [
        ("versions.txt", versions().map_err(|e| e.line())),
        ("status.json", within(Box::pin(of_status(cx, &sources))).await),
        ("plan.txt", within(Box::pin(plan::described(cx))).await),
    ];
    for (name, content) in parts {
        archive.put(name, content.map(String::into_bytes)).map_err(ArchiveError)?;
    }
    sources.collect(&mut archive).await.map_err(ArchiveError)?;
    Ok(archive.finish().map_err(ArchiveError)?)
}

async fn within(part: impl Future<Output = Result<String, CommandError>>) -> Result<String, String> {
    match tokio::time::timeout(PATIENCE, part).await {
        Ok(part) => part.map_err(|error| error.line()),
        Err(_) => Err(format!("nothing came within {} s", PATIENCE.as_secs())),
    }
}

fn versions() -> Result<String, CommandError> {
    let mut text = format!("kayak {}\n", env!("CARGO_PKG_VERSION"));
    for component in Catalog::embedded()?.components() {
        // Writing into a text cannot fail.
        let _ = writeln!(text, "{} {}", component.name, component.version);
    }
    Ok(text)
}

async fn of_status(cx: &Context, sources: &Sources) -> Result<String, CommandError> {
    let assets = asset_dir::read(&sources.assets)?;
    let cluster = ClusterHandle::new(assets, cx.driver()?).await?;
    Ok(serde_json::to_string_pretty(&status::report(&cluster).await?)?)
}

fn tell(cx: &Context, file: &Utf8PathBuf, finished: &Finished) -> Result<(), CommandError> {
    let (files, missing) = (finished.files, &finished.errors);
    match cx.output {
        Output::Json => report::json(
            &json!({ "file": file, "bytes": finished.bytes.len(), "files": files, "missing": missing }),
        )?,
        Output::Text => {
            report::data(file.as_str());
            let kilobytes = finished.bytes.len() / 1000;
            report::note(&format!("{files} files, {kilobytes} kB; {} parts are missing", missing.len()));
            for part in missing {
                report::note(&format!("  {part}"));
            }
        }
    }
    Ok(())
}

/// The time as a part of a file's name.
fn stamp(now: OffsetDateTime) -> String {
    let (year, month, day) = now.to_calendar_date();
    let (hour, minute, second) = now.to_hms();
    format!("{year}{:02}{day:02}-{hour:02}{minute:02}{second:02}", u8::from(month))
}
