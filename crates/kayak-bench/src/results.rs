//! What measuring gave, and whether that is good enough.

use std::process::ExitCode;

use serde::Serialize;

use crate::measure::AtRest;
use crate::measure::load::Latency;
use crate::subject::{Shape, Up};

/// What a comparison on one node gave.
#[derive(Debug, Serialize)]
pub struct OneNode {
    /// The size of the program that was measured.
    pub binary_mib: f64,
    /// kayak with its default profile.
    pub kayak: Measured,
    /// kayak with its home profile.
    pub home: Measured,
    /// kubeadm.
    pub kubeadm: Measured,
    /// What was to be reached, and what was.
    pub targets: Vec<Target>,
}

/// What clusters of several nodes gave.
#[derive(Debug, Serialize)]
pub struct Fleets {
    /// Each of kayak's.
    pub shapes: Vec<Fleet>,
    /// kubeadm's, of one controller and one worker.
    pub kubeadm: Measured,
    /// What was to be reached, and what was.
    pub targets: Vec<Target>,
}

/// What clusters of one shape gave.
#[derive(Debug, Serialize)]
pub struct Fleet {
    /// How many nodes.
    pub shape: Shape,
    /// What was measured.
    pub kayak: Measured,
}

/// What was measured of one subject.
#[derive(Debug, Default, Serialize)]
pub struct Measured {
    /// Every bringing up.
    pub ups: Vec<Up>,
    /// The median of what those took.
    pub median_seconds: f64,
    /// How long it took to find that nothing is to be done, for those that can.
    pub second_up_seconds: Option<f64>,
    /// What it takes at rest.
    pub at_rest: Option<AtRest>,
    /// How fast its API is.
    pub latency: Option<Latency>,
}

/// A number that must not be larger than another.
#[derive(Debug, Clone, Serialize)]
pub struct Target {
    /// What it is.
    pub what: String,
    /// What was measured.
    pub measured: f64,
    /// The largest that is good enough.
    pub limit: f64,
    /// Whether it is.
    pub met: bool,
}

impl Target {
    fn new(what: &str, measured: f64, limit: f64) -> Self {
        Self { what: what.into(), measured, limit, met: measured <= limit }
    }
}

impl Measured {
    /// Adds a bringing up.
    pub fn add(&mut self, up: Up) {
        self.ups.push(up);
        self.median_seconds = median(self.ups.iter().map(|up| up.seconds));
    }

    fn up(&self) -> f64 {
        if self.ups.is_empty() { f64::NAN } else { self.median_seconds }
    }

    fn pss(&self) -> f64 {
        self.at_rest.as_ref().map_or(f64::NAN, |rest| rest.pss_mib)
    }

    fn cpu(&self) -> f64 {
        self.at_rest.as_ref().map_or(f64::NAN, |rest| rest.cpu_millicores)
    }

    fn failed(&self) -> f64 {
        let failed = self.latency.as_ref().map(|latency| u32::try_from(latency.failed).unwrap_or(u32::MAX));
        failed.map_or(f64::NAN, f64::from)
    }

    fn p99(&self) -> f64 {
        self.latency.as_ref().map_or(f64::NAN, |latency| latency.p99_ms)
    }
}

/// Whether all was reached.
pub fn exit(targets: &[Target]) -> ExitCode {
    if targets.iter().all(|target| target.met) { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

impl OneNode {
    /// Compares what was measured with what issue and documents promise. What was not measured is missed.
    pub fn new(binary_mib: f64, kayak: Measured, home: Measured, kubeadm: Measured) -> Self {
        let agent = kayak.at_rest.as_ref().map_or(f64::NAN, |rest| rest.rss_mib("kayak agent"));
        let targets = vec![
            Target::new("up, of kubeadm's time", kayak.up() / kubeadm.up(), 0.5),
            Target::new("second up, s", kayak.second_up_seconds.unwrap_or(f64::NAN), 3.0),
            Target::new("memory at rest, MiB", kayak.pss(), 650.0),
            Target::new("memory at rest, home profile, MiB", home.pss(), 500.0),
            Target::new("idle CPU, millicores", kayak.cpu(), kubeadm.cpu()),
            Target::new("API p99, ms", kayak.p99(), kubeadm.p99()),
            Target::new("API requests failed", kayak.failed(), 0.0),
            Target::new("agent, MiB resident", agent, 15.0),
            Target::new("binary, MiB", binary_mib, 25.0),
        ];
        Self { binary_mib, kayak, home, kubeadm, targets }
    }
}

impl Fleets {
    /// The same for clusters of several nodes.
    pub fn new(shapes: Vec<Fleet>, kubeadm: Measured) -> Self {
        /// Bytes of a MiB over those of a MB.
        const MB: f64 = 1.048_576;
        let nothing = Measured::default();
        let of = |controllers, workers| {
            let shape = Shape::new(controllers, workers);
            shapes.iter().find(|fleet| fleet.shape == shape).map_or(&nothing, |fleet| &fleet.kayak)
        };
        let [pair, four, six] = [of(1, 1), of(1, 3), of(3, 3)];
        let targets = vec![
            Target::new("3+3, up, s", six.up(), 75.0),
            Target::new("1+1, up, of kubeadm's time", pair.up() / kubeadm.up(), 0.6),
            Target::new("one more worker, MB", (four.pss() - pair.pss()) / 2.0 * MB, 160.0),
            Target::new("3+3, second up, s", six.second_up_seconds.unwrap_or(f64::NAN), 3.0),
            Target::new("3+3, API requests failed", six.failed(), 0.0),
        ];
        Self { shapes, kubeadm, targets }
    }
}

/// The middle of some numbers, or between the two in the middle.
pub fn median(numbers: impl IntoIterator<Item = f64>) -> f64 {
    let mut sorted: Vec<f64> = numbers.into_iter().collect();
    sorted.sort_by(f64::total_cmp);
    let at = |index: usize| sorted.get(index).copied().unwrap_or(f64::NAN);
    match sorted.len() {
        0 => f64::NAN,
        length if length % 2 == 1 => at(length / 2),
        length => f64::midpoint(at(length / 2 - 1), at(length / 2)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_in_the_middle() {
        let close = |value: f64, wanted: f64| (value - wanted).abs() < 1e-9;
        assert!(close(median([3.0, 1.0, 2.0]), 2.0));
        assert!(close(median([4.0, 1.0, 2.0, 3.0]), 2.5));
        assert!(median([]).is_nan());
    }

    #[test]
    fn what_was_not_measured_is_missed() {
        let met = |targets: &[Target]| -> Vec<String> {
            targets.iter().filter(|target| target.met).map(|target| target.what.clone()).collect()
        };
        let nothing = Measured::default;
        assert_eq!(met(&OneNode::new(1.0, nothing(), nothing(), nothing()).targets), ["binary, MiB"]);
        assert!(met(&Fleets::new(Vec::new(), nothing()).targets).is_empty());
    }

    #[test]
    fn a_worker_takes_half_of_what_two_more_take() {
        let fleet = |workers, pss_mib| {
            let at_rest = AtRest { pss_mib, processes: Vec::new(), cpu_millicores: 0.0, cpu_seconds: 1 };
            let kayak = Measured { at_rest: Some(at_rest), ..Measured::default() };
            Fleet { shape: Shape::new(1, workers), kayak }
        };
        let fleets = Fleets::new(vec![fleet(1, 1000.0), fleet(3, 1200.0)], Measured::default());
        let worker = fleets.targets.iter().find(|target| target.what == "one more worker, MB").unwrap();
        assert!(worker.met && (worker.measured - 104.857_6).abs() < 1e-9, "{worker:?}");
    }
}
