//! All that is printed.

#![expect(clippy::print_stdout, clippy::print_stderr, reason = "the one module that prints")]

use std::error::Error;

use crate::measure::AtRest;
use crate::results::{Measured, Results};
use crate::subject::Up;

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
    let phases: Vec<_> = up.phases.iter().map(|(phase, seconds)| format!("{phase} {seconds:.1}")).collect();
    println!(
        "{name:<11} {run:>2}  {:>5.1} s  (itself {:.1}, DNS {:.1}; {})",
        up.seconds,
        up.tool_seconds,
        up.dns_seconds,
        phases.join(", ")
    );
}

/// Prints the table that people read.
pub fn results(results: &Results) {
    let machine = &results.machine;
    println!(
        "\n{} on {} × {}, {} MiB, Linux {}, cgroup v{}, load {} before\n",
        results.commit,
        machine.cores,
        machine.processor,
        machine.memory_mib,
        machine.kernel,
        machine.cgroup,
        machine.load
    );
    let columns = [("kayak", &results.kayak), ("home", &results.home), ("kubeadm", &results.kubeadm)];
    println!("{:<26}{:>10}{:>10}{:>10}", "", columns[0].0, columns[1].0, columns[2].0);
    for (what, number) in rows() {
        let cells = columns.map(|(_, measured)| number(measured).map_or("-".into(), |n| format!("{n:.1}")));
        println!("{what:<26}{:>10}{:>10}{:>10}", cells[0], cells[1], cells[2]);
    }
    println!("\nmemory, MiB");
    for (name, measured) in columns {
        if let Some(rest) = &measured.at_rest {
            println!("  {name}: {}", programs(rest));
        }
    }
    println!();
    for target in &results.targets {
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
