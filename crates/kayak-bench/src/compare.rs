//! kayak and kubeadm in turn, then what each takes and gives while it runs.

use std::fs;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use camino::{Utf8Path, Utf8PathBuf};
use kayak_bundle::{Bundle, Image};

use crate::command;
use crate::error::BenchError;
use crate::kayak::Kayak;
use crate::kubeadm::{self, Kubeadm};
use crate::machine::{Machine, commit};
use crate::measure::{AtRest, load};
use crate::report;
use crate::results::{Measured, Results, targets};
use crate::scene::{NODE, Scene, SceneArgs};
use crate::subject::Subject;

/// Compare kayak with kubeadm, and write the results to a file
#[derive(Debug, clap::Args)]
pub struct CompareArgs {
    #[command(flatten)]
    scene: SceneArgs,

    /// How often each is brought up
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..), value_name = "N")]
    runs: u32,

    /// kubeadm's Go module
    #[arg(long, default_value = "bench/kubeadm", value_name = "DIR")]
    kubeadm: Utf8PathBuf,

    /// Where results are kept
    #[arg(long, default_value = "bench/results", value_name = "DIR")]
    results: Utf8PathBuf,

    /// How long a cluster rests before its memory is measured
    #[arg(long, default_value_t = 120, value_name = "SECONDS")]
    rest: u64,

    /// How long its idle CPU is measured
    #[arg(long, default_value_t = 60, value_name = "SECONDS")]
    idle: u64,

    /// How long its API is loaded
    #[arg(long, default_value_t = 30, value_name = "SECONDS")]
    load: u64,
}

/// Compares.
pub async fn run(args: &CompareArgs) -> Result<ExitCode, BenchError> {
    let scene = Scene::set(&args.scene)?;
    let (machine, commit) = (Machine::look()?, commit().await?);
    let (kubeadm, [kayak, home]) = subjects(args, &scene).await?;
    clear(&scene, &kubeadm, [&kayak, &home]).await?;
    let (mut of_kayak, mut of_home, mut of_kubeadm) =
        (Measured::default(), Measured::default(), Measured::default());
    for run in 1..=args.runs {
        // What it takes at rest is measured once: it hardly differs.
        let whole = run == args.runs;
        of_kubeadm = one(args, &scene, &kubeadm, run, whole, of_kubeadm, None).await?;
        of_kayak = one(args, &scene, &kayak, run, whole, of_kayak, Some(&kayak)).await?;
    }
    of_home = one(args, &scene, &home, 1, true, of_home, Some(&home)).await?;

    let size = fs::metadata(&scene.kayak).map_err(BenchError::read(&scene.kayak))?.len();
    let binary_mib = report::mib(size);
    let targets = targets(binary_mib, &of_kayak, &of_home, &of_kubeadm);
    let date = time::OffsetDateTime::now_utc().date().to_string();
    let results = Results {
        date,
        commit,
        machine,
        binary_mib,
        kayak: of_kayak,
        home: of_home,
        kubeadm: of_kubeadm,
        targets,
    };
    report::results(&results);
    let path = write(&args.results, &results)?;
    report::line(&format!("\nresults: {path}\nlogs:    {}", scene.logs));
    let met = results.targets.iter().all(|target| target.met);
    Ok(if met { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Builds and finds what is measured.
async fn subjects(args: &CompareArgs, scene: &Scene) -> Result<(Kubeadm, [Kayak; 2]), BenchError> {
    let bundle = Bundle::open(&scene.cache.join("bundle")).map_err(BenchError::Bundle)?;
    let reference = |name: &str| {
        let prefix = format!("kayak.local/{name}:");
        let found = bundle.images().iter().map(Image::reference).rfind(|r| r.starts_with(&prefix));
        found.map(str::to_owned).ok_or_else(|| BenchError::NoImage(name.to_owned()))
    };
    let pause = reference("pause")?;
    let kayak = |name, profile| Kayak { name, profile, image: pause.clone() };
    let kayaks = [kayak("bn-kayak", "default"), kayak("bn-home", "home")];
    let kubernetes = reference("kubernetes")?;
    let version = kubernetes.rsplit(':').next().unwrap_or_default();
    let program = kubeadm::build(scene, &args.kubeadm, version).await?;
    let containerd = containerd_config(scene, &kayaks[0]).await?;
    Ok((Kubeadm { program, bundle, containerd }, kayaks))
}

/// Renders the configuration that both give to the runtime.
async fn containerd_config(scene: &Scene, kayak: &Kayak) -> Result<String, BenchError> {
    let (config, assets) = (kayak.configure(scene)?, scene.run_logs("assets")?);
    let mut render = kayak.command(scene, &["render", "--config", config.as_str(), "-o", assets.as_str()]);
    command::run(&mut render).await?;
    let path = assets.join(format!("nodes/{NODE}/etc/kubernetes/containerd/config.toml"));
    fs::read_to_string(&path).map_err(BenchError::read(path))
}

/// Removes what an earlier comparison that was cut off left.
async fn clear(scene: &Scene, kubeadm: &Kubeadm, kayaks: [&Kayak; 2]) -> Result<(), BenchError> {
    let _turn = scene.turn()?;
    kubeadm.down(scene).await?;
    for kayak in kayaks {
        kayak.down(scene).await?;
    }
    Ok(())
}

/// Brings a subject up and down, and measures it in between if the whole is wanted.
async fn one(
    args: &CompareArgs,
    scene: &Scene,
    subject: &impl Subject,
    run: u32,
    whole: bool,
    mut measured: Measured,
    again: Option<&Kayak>,
) -> Result<Measured, BenchError> {
    let _turn = scene.turn()?;
    let name = subject.name();
    let logs = scene.run_logs(&format!("{name}-{run}"))?;
    let up = subject.up(scene, &logs).await?;
    report::up(name, run, &up);
    measured.add(up);
    if whole {
        tokio::time::sleep(Duration::from_secs(args.rest)).await;
        measured.at_rest = Some(AtRest::measure(name, Duration::from_secs(args.idle)).await?);
        measured.latency = Some(load::run(&subject.kubeconfig(scene), Duration::from_secs(args.load)).await?);
        if let Some(kayak) = again {
            let start = Instant::now();
            kayak.bring_up(scene, &scene.run_logs(&format!("{name}-again"))?).await?;
            measured.second_up_seconds = Some(start.elapsed().as_secs_f64());
        }
    }
    subject.down(scene).await?;
    Ok(measured)
}

fn write(directory: &Utf8Path, results: &Results) -> Result<Utf8PathBuf, BenchError> {
    fs::create_dir_all(directory).map_err(BenchError::write(directory))?;
    let path = directory.join(format!("{}-{}.json", results.date, results.commit));
    let text = serde_json::to_string_pretty(results).map_err(BenchError::Results)?;
    fs::write(&path, text + "\n").map_err(BenchError::write(&path))?;
    Ok(path)
}
