//! Up and down, and up, killed, up and down, over and over: nothing may grow, and nothing be left.

use std::process::ExitCode;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use crate::error::BenchError;
use crate::kayak::Kayak;
use crate::report;
use crate::scene::{Scene, SceneArgs};
use crate::subject::{Shape, Subject as _};
use crate::traces::{SLACK_KIB, Traces, disk_kib};

/// Bring clusters up and down, killing kayak in between, and look for what is left
#[derive(Debug, clap::Args)]
pub struct SoakArgs {
    #[command(flatten)]
    scene: SceneArgs,

    /// How often of each kind
    #[arg(long, default_value_t = 20, value_name = "N")]
    rounds: u32,

    /// Decides when kayak is killed; a former run's seed repeats it
    #[arg(long, value_name = "NUMBER")]
    seed: Option<u64>,
}

/// What a round is compared with.
struct Soak {
    scene: Scene,
    kayak: Kayak,
    /// The machine before the first round.
    before: Traces,
    /// The machine with the first cluster up, and what that took of the disk.
    up: Option<(Traces, u64)>,
}

/// Soaks.
pub async fn run(args: &SoakArgs) -> Result<ExitCode, BenchError> {
    let scene = Scene::set(&args.scene)?;
    let seed = args.seed.unwrap_or_else(now);
    report::line(&format!("seed {seed}: `--seed {seed}` kills at the same moments"));
    let kayak = Kayak { name: "bn-soak", profile: "default", shape: Shape::ONE, image: String::new() };
    let before = {
        let _turn = scene.turn()?;
        kayak.down(&scene).await?;
        Traces::look(&scene).await?
    };
    let mut soak = Soak { scene, kayak, before, up: None };
    let mut took = Duration::from_secs(1);
    for round in 1..=args.rounds {
        took = soak.up_and_down(round).await?;
    }
    let mut moments = Moments(seed);
    for round in 1..=args.rounds {
        // Also a little after the end: then there is nothing to kill.
        let moment = took.mul_f64(moments.next() * 1.1);
        soak.up_killed_up_and_down(round, moment).await?;
    }
    report::line(&format!("nothing grew, nothing is left after 2 × {} rounds", args.rounds));
    Ok(ExitCode::SUCCESS)
}

impl Soak {
    async fn up_and_down(&mut self, round: u32) -> Result<Duration, BenchError> {
        let _turn = self.scene.turn()?;
        let when = format!("round {round}, up and down");
        let logs = self.scene.run_logs("soak")?;
        let start = Instant::now();
        self.kayak.bring_up(&self.scene, &logs).await?;
        let took = start.elapsed();
        self.look_while_up(&when).await?;
        self.end(&when).await?;
        report::line(&format!("{when}: {:.1} s", took.as_secs_f64()));
        Ok(took)
    }

    async fn up_killed_up_and_down(&mut self, round: u32, moment: Duration) -> Result<(), BenchError> {
        let _turn = self.scene.turn()?;
        let when = format!("round {round}, killed after {:.2} s", moment.as_secs_f64());
        let logs = self.scene.run_logs("soak")?;
        let mut killed = self.kayak.start_up(&self.scene, &logs)?;
        // The moment is what is tried: there is no event to wait for.
        tokio::time::sleep(moment).await;
        killed.kill().await.map_err(BenchError::read(&logs))?;
        let start = Instant::now();
        self.kayak.bring_up(&self.scene, &logs).await?;
        let took = start.elapsed();
        self.look_while_up(&when).await?;
        self.end(&when).await?;
        report::line(&format!("{when}: up again in {:.1} s", took.as_secs_f64()));
        Ok(())
    }

    /// Compares the machine with how it was with the first cluster up.
    async fn look_while_up(&mut self, when: &str) -> Result<(), BenchError> {
        let disk = disk_kib(&self.scene.state).await?;
        let Some((first, first_disk)) = &self.up else {
            self.up = Some((Traces::look(&self.scene).await?, disk));
            return Ok(());
        };
        let mut grown = Traces::look(&self.scene).await?.grown(first);
        if disk > first_disk + SLACK_KIB {
            grown.push(format!("disk: {disk} KiB, before {first_disk}"));
        }
        nothing(when, grown)
    }

    /// Removes the cluster and compares the machine with how it was before the first.
    async fn end(&self, when: &str) -> Result<(), BenchError> {
        self.kayak.down(&self.scene).await?;
        nothing(&format!("{when}, after `down`"), Traces::look(&self.scene).await?.beyond(&self.before))
    }
}

fn nothing(when: &str, what: Vec<String>) -> Result<(), BenchError> {
    if what.is_empty() { Ok(()) } else { Err(BenchError::Left { when: when.to_owned(), what }) }
}

/// A seed for those who do not care which.
fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_secs())
}

/// Numbers from 0 to 1 that a seed decides (splitmix64, by Sebastiano Vigna, public domain).
struct Moments(u64);

impl Moments {
    fn next(&mut self) -> f64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        let top = u32::try_from((mixed ^ (mixed >> 31)) >> 32).unwrap_or(u32::MAX);
        f64::from(top) / f64::from(u32::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_decides_all_moments() {
        let first = |seed| {
            let mut moments = Moments(seed);
            [(); 5].map(|()| moments.next())
        };
        assert_eq!(first(7).map(f64::to_bits), first(7).map(f64::to_bits));
        assert_ne!(first(7).map(f64::to_bits), first(8).map(f64::to_bits));
        let mut moments = Moments(1);
        let many: Vec<_> = (0..1000).map(|_| moments.next()).collect();
        assert!(many.iter().all(|moment| (0.0..=1.0).contains(moment)));
        let mean = many.iter().sum::<f64>() / 1000.0;
        assert!((0.45..0.55).contains(&mean), "{mean}");
    }
}
