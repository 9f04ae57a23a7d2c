use std::process::ExitCode;
use std::time::Instant;

use camino::Utf8PathBuf;
use kayak_bundle::{Bundle, Catalog, Options, build};
use serde_json::json;

use crate::context::Context;
use crate::error::CommandError;
use crate::report::{self, Output, Progress};

#[derive(clap::Subcommand)]
pub enum BundleCommand {
    /// Build what is missing or changed, from pinned upstream sources
    Build {
        /// How many components to build at a time
        #[arg(long, default_value_t = 2, value_name = "N")]
        jobs: usize,
    },
    /// List the images
    Ls {
        /// Show the licence of each component instead
        #[arg(long)]
        licenses: bool,
    },
    /// Check every byte
    Verify,
    /// Write the whole bundle into one compressed file
    Export {
        /// The file
        file: Utf8PathBuf,
    },
    /// Take the bundle from such a file
    Import {
        /// The file
        file: Utf8PathBuf,
    },
}

pub fn run(cx: &Context, command: BundleCommand) -> Result<ExitCode, CommandError> {
    let directory = Options::in_cache(&cx.dirs.cache).bundle;
    match command {
        BundleCommand::Build { jobs } => {
            let (start, progress) = (Instant::now(), Progress::new(cx.output));
            let options = Options { jobs, ..Options::in_cache(&cx.dirs.cache) };
            let bundle = build(&options, |event| progress.build_event(&event))?;
            progress.finish();
            let (images, seconds) = (bundle.images().len(), start.elapsed().as_secs_f64());
            let json = json!({ "images": images, "bytes": bundle.size(), "seconds": seconds });
            let megabytes = bundle.size() / 1_000_000;
            let text = format!("the bundle is up to date: {images} images, {megabytes} MB ({seconds:.1} s)");
            say(cx, &json, &text)?;
        }
        BundleCommand::Ls { licenses: true } => list_licenses(cx)?,
        BundleCommand::Ls { licenses: false } => list_images(cx, &Bundle::open(&directory)?)?,
        BundleCommand::Verify => return verify(cx, &Bundle::open(&directory)?),
        BundleCommand::Export { file } => {
            Bundle::open(&directory)?.export(&file)?;
            say(cx, &json!({ "file": file }), &format!("wrote {file}"))?;
        }
        BundleCommand::Import { file } => {
            let bundle = Bundle::import(&file, &directory)?;
            let images = bundle.images().len();
            say(cx, &json!({ "images": images }), &format!("took {images} images from {file}"))?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// Tells what was done.
fn say(cx: &Context, json: &serde_json::Value, text: &str) -> Result<(), CommandError> {
    match cx.output {
        Output::Json => report::json(json)?,
        Output::Text => report::note(text),
    }
    Ok(())
}

fn list_images(cx: &Context, bundle: &Bundle) -> Result<(), CommandError> {
    if cx.output == Output::Json {
        let images: Vec<_> = bundle
            .images()
            .iter()
            .map(|i| json!({ "reference": i.reference(), "digest": i.digest().to_string(), "bytes": i.size(), "licenses": i.licenses() }))
            .collect();
        return Ok(report::json(&images)?);
    }
    let mut rows = vec![vec!["IMAGE".to_owned(), "SIZE".into(), "DIGEST".into()]];
    for image in bundle.images() {
        let size = format!("{} MB", image.size() / 1_000_000);
        rows.push(vec![image.reference().into(), size, image.digest().to_string()]);
    }
    report::table(&rows);
    Ok(())
}

fn list_licenses(cx: &Context) -> Result<(), CommandError> {
    let catalog = Catalog::embedded()?;
    let components: Vec<_> = catalog
        .components()
        .iter()
        .map(|c| (c.name.clone(), c.version.to_string(), c.license.clone()))
        .collect();
    if cx.output == Output::Json {
        let objects: Vec<_> = components
            .iter()
            .map(|(name, version, license)| json!({ "component": name, "version": version, "license": license }))
            .collect();
        return Ok(report::json(&objects)?);
    }
    let mut rows = vec![vec!["COMPONENT".to_owned(), "VERSION".into(), "LICENCE".into()]];
    rows.extend(components.into_iter().map(|(name, version, license)| vec![name, version, license]));
    report::table(&rows);
    Ok(())
}

fn verify(cx: &Context, bundle: &Bundle) -> Result<ExitCode, CommandError> {
    let damage = bundle.verify()?;
    if cx.output == Output::Json {
        report::json(&damage.iter().map(ToString::to_string).collect::<Vec<_>>())?;
    } else if damage.is_empty() {
        report::note(&format!("{} images are whole", bundle.images().len()));
    } else {
        // What is damaged must go, or the next build takes it for done.
        bundle.discard(&damage)?;
        let lines: Vec<_> = damage.iter().map(|d| format!("\n  {d}")).collect();
        return Err(CommandError::failed(format!("the bundle is damaged:{}", lines.concat()))
            .hint("mend it with `kayak bundle build`, or import it again"));
    }
    Ok(if damage.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
