//! kayak and kubeadm in turn on one node, then what each takes and gives while it runs.

use std::fs;
use std::process::ExitCode;

use crate::error::BenchError;
use crate::report;
use crate::results::{Measured, OneNode, exit};
use crate::series::{Series, SeriesArgs};
use crate::subject::Shape;
use crate::tools::Tools;

/// Compare kayak with kubeadm on one node, and write the results to a file
#[derive(Debug, clap::Args)]
pub struct CompareArgs {
    #[command(flatten)]
    series: SeriesArgs,
}

/// Compares.
pub async fn run(args: &CompareArgs) -> Result<ExitCode, BenchError> {
    let series = Series::begin(&args.series).await?;
    let tools = Tools::find(&series.scene, &args.series.kubeadm).await?;
    let kubeadm = tools.kubeadm("bn-kubeadm", Shape::ONE);
    let kayak = tools.kayak("bn-kayak", "default", Shape::ONE)?;
    let home = tools.kayak("bn-home", "home", Shape::ONE)?;
    series.clear(&kubeadm).await?;
    series.clear(&kayak).await?;
    series.clear(&home).await?;
    let (mut of_kayak, mut of_home, mut of_kubeadm) =
        (Measured::default(), Measured::default(), Measured::default());
    for run in 1..=args.series.runs {
        series.run(&kubeadm, run, &mut of_kubeadm).await?;
        series.run(&kayak, run, &mut of_kayak).await?;
    }
    // How fast it comes up differs in nothing.
    series.run(&home, args.series.runs, &mut of_home).await?;

    let program = &series.scene.kayak;
    let size = fs::metadata(program).map_err(BenchError::read(program))?.len();
    let results = OneNode::new(report::mib(size), of_kayak, of_home, of_kubeadm);
    report::one_node(&series, &results);
    series.write("one-node", &results)?;
    Ok(exit(&results.targets))
}
