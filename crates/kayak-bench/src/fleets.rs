//! Clusters of several nodes, and kubeadm's of two in turn with kayak's.

use std::process::ExitCode;

use crate::error::BenchError;
use crate::report;
use crate::results::{Fleet, Fleets, Measured, exit};
use crate::series::{Series, SeriesArgs};
use crate::subject::Shape;
use crate::tools::Tools;

/// Measure clusters of several nodes, and write the results to a file
#[derive(Debug, clap::Args)]
pub struct FleetsArgs {
    #[command(flatten)]
    series: SeriesArgs,
}

/// What kubeadm makes, too.
const PAIR: Shape = Shape::new(1, 1);

/// The clusters that are measured, by their names.
const FLEETS: [(&str, Shape); 5] = [
    ("bn-1-0", Shape::ONE),
    ("bn-1-1", PAIR),
    ("bn-1-3", Shape::new(1, 3)),
    ("bn-3-0", Shape::new(3, 0)),
    ("bn-3-3", Shape::new(3, 3)),
];

/// Measures.
pub async fn run(args: &FleetsArgs) -> Result<ExitCode, BenchError> {
    let series = Series::begin(&args.series).await?;
    let tools = Tools::find(&series.scene, &args.series.kubeadm).await?;
    let kubeadm = tools.kubeadm("bn-kubeadm-1-1", PAIR);
    series.clear(&kubeadm).await?;
    let (mut fleets, mut of_kubeadm) = (Vec::new(), Measured::default());
    for (name, shape) in FLEETS {
        let kayak = tools.kayak(name, "default", shape)?;
        series.clear(&kayak).await?;
        let mut measured = Measured::default();
        for run in 1..=args.series.runs {
            if shape == PAIR {
                series.run(&kubeadm, run, &mut of_kubeadm).await?;
            }
            series.run(&kayak, run, &mut measured).await?;
        }
        fleets.push(Fleet { shape, kayak: measured });
    }
    let results = Fleets::new(fleets, of_kubeadm);
    report::fleets(&series, &results);
    series.write("fleets", &results)?;
    Ok(exit(&results.targets))
}
