//! All that is printed.

#![expect(clippy::print_stdout, clippy::print_stderr, reason = "the one module that prints")]

use std::error::Error;

use crate::measure::AtRest;
use crate::results::{Fleets, Measured, OneNode, Target};
use crate::series::Series;
use crate::subject::{Phase, Up};

/// Prints a line.
pub fn line(text: &str) {
    println!("{text}");
}

/// Prints an error and its causes.
pub fn error(error: &dyn Error) {
    eprintln!("error: {error}");
    let mut cause = error.source();
    while let Some(error) = cause {
        eprintln!("  caused by: {error}");
        cause = error.source();
    }
}

/// Prints one bringing up, as it happens.
pub fn up(name: &str, run: u32, up: &Up) {
    let phases: Vec<_> = up.phases.iter().map(|p| format!("{} {:.1}", p.name, p.seconds)).collect();
    println!(
        "{name:<11} {run:>2}  {:>5.1} s  (itself {:.1}, DNS {:.1}; {})",
        up.seconds,
        up.tool_seconds,
        up.dns_seconds,
        phases.join(", ")
    );
}

/// Prints the tables of one node that people read.
pub fn one_node(series: &Series<'_>, results: &OneNode) {
    let columns = [("kayak", &results.kayak), ("home", &results.home), ("kubeadm", &results.kubeadm)];
    table(series, &columns.map(|(name, measured)| (name.to_owned(), measured)));
    targets(&results.targets);
}

/// Prints the tables of several nodes that people read.
pub fn fleets(series: &Series<'_>, results: &Fleets) {
    let mut columns: Vec<_> =
        results.shapes.iter().map(|fleet| (fleet.shape.to_string(), &fleet.kayak)).collect();
    columns.push(("kubeadm".into(), &results.kubeadm));
    table(series, &columns);
    for fleet in &results.shapes {
        if let Some(up) = fleet.kayak.ups.last() {
            println!("\n{}: what its last `up` of {:.1} s waited for", fleet.shape, up.seconds);
            for Phase { name, seconds, last } in &up.phases {
                println!("  {seconds:>5.1} s  {name:<12} {}", last.as_deref().unwrap_or_default());
            }
        }
    }
    targets(&results.targets);
}

fn table(series: &Series<'_>, columns: &[(String, &Measured)]) {
    let machine = &series.machine;
    println!(
        "\n{} on {} × {}, {} MiB, Linux {}, cgroup v{}, load {} before\n",
        series.commit,
        machine.cores,
        machine.processor,
        machine.memory_mib,
        machine.kernel,
        machine.cgroup,
        machine.load
    );
    let line = |what: &str, cells: Vec<String>| {
        let cells: Vec<_> = cells.iter().map(|cell| format!("{cell:>10}")).collect();
        println!("{what:<26}{}", cells.concat());
    };
    line("", columns.iter().map(|(name, _)| name.clone()).collect());
    for (what, number) in rows() {
        let cell = |(_, measured): &(String, &Measured)| {
            number(measured).map_or_else(|| "-".into(), |number| format!("{number:.1}"))
        };
        line(what, columns.iter().map(cell).collect());
    }
    println!("\nmemory, MiB");
    for (name, measured) in columns {
        if let Some(rest) = &measured.at_rest {
            println!("  {name}: {}", programs(rest));
        }
    }
}

fn targets(targets: &[Target]) {
    println!();
    for target in targets {
        let mark = if target.met { "✓" } else { "✗" };
        println!("{mark} {:<34} {:>8.2}  at most {:.2}", target.what, target.measured, target.limit);
    }
}

/// A line of the table: what it is, and where its number is found.
type Row = (&'static str, fn(&Measured) -> Option<f64>);

fn rows() -> [Row; 7] {
    [
        ("up, median, s", |m| Some(m.median_seconds)),
        ("second up, s", |m| m.second_up_seconds),
        ("memory at rest, MiB", |m| m.at_rest.as_ref().map(|rest| rest.pss_mib)),
        ("idle CPU, millicores", |m| m.at_rest.as_ref().map(|rest| rest.cpu_millicores)),
        ("API p50, ms", |m| m.latency.as_ref().map(|latency| latency.p50_ms)),
        ("API p99, ms", |m| m.latency.as_ref().map(|latency| latency.p99_ms)),
        ("API worst, ms", |m| m.latency.as_ref().map(|latency| latency.worst_ms)),
    ]
}

fn programs(rest: &AtRest) -> String {
    let one = |p: &crate::measure::group::ProcessMemory| match p.count {
        1 => format!("{} {:.0}", p.program, p.pss_mib),
        count => format!("{count} × {} {:.0}", p.program, p.pss_mib),
    };
    rest.processes.iter().map(one).collect::<Vec<_>>().join(", ")
}

/// Bytes as MiB.
pub fn mib(bytes: u64) -> f64 {
    f64::from(u32::try_from(bytes / 1024).unwrap_or(u32::MAX)) / 1024.0
}
