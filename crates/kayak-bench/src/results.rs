//! What measuring gave, and whether that is good enough.

use serde::Serialize;

use crate::machine::Machine;
use crate::measure::AtRest;
use crate::measure::load::Latency;
use crate::subject::Up;

/// Everything that one comparison gave: what is written to a file.
#[derive(Debug, Serialize)]
pub struct Results {
    /// The day.
    pub date: String,
    /// The commit.
    pub commit: String,
    /// The machine.
    pub machine: Machine,
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

/// What was measured of one subject.
#[derive(Debug, Clone, Default, Serialize)]
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

    fn pss(&self) -> f64 {
        self.at_rest.as_ref().map_or(f64::NAN, |rest| rest.pss_mib)
    }

    fn cpu(&self) -> f64 {
        self.at_rest.as_ref().map_or(f64::NAN, |rest| rest.cpu_millicores)
    }

    fn p99(&self) -> f64 {
        self.latency.as_ref().map_or(f64::NAN, |latency| latency.p99_ms)
    }
}

/// Compares what was measured with what issue and documents promise. What was not measured is missed.
pub fn targets(binary_mib: f64, kayak: &Measured, home: &Measured, kubeadm: &Measured) -> Vec<Target> {
    let agent = kayak.at_rest.as_ref().map_or(f64::NAN, |rest| rest.rss_mib("kayak agent"));
    let failed =
        kayak.latency.as_ref().map_or(f64::NAN, |l| f64::from(u32::try_from(l.failed).unwrap_or(u32::MAX)));
    vec![
        Target::new("up, of kubeadm's time", kayak.median_seconds / kubeadm.median_seconds, 0.5),
        Target::new("second up, s", kayak.second_up_seconds.unwrap_or(f64::NAN), 3.0),
        Target::new("memory at rest, MiB", kayak.pss(), 650.0),
        Target::new("memory at rest, home profile, MiB", home.pss(), 500.0),
        Target::new("idle CPU, millicores", kayak.cpu(), kubeadm.cpu()),
        Target::new("API p99, ms", kayak.p99(), kubeadm.p99()),
        Target::new("API requests failed", failed, 0.0),
        Target::new("agent, MiB resident", agent, 15.0),
        Target::new("binary, MiB", binary_mib, 25.0),
    ]
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
        let nothing = Measured::default();
        let targets = targets(1.0, &nothing, &nothing, &nothing);
        let met: Vec<_> = targets.iter().filter(|target| target.met).map(|target| &target.what).collect();
        assert_eq!(met, ["binary, MiB"]);
    }
}
