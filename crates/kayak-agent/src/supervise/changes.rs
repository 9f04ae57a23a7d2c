//! When a unit is to be stopped, or to be started with something else.

use std::io;
use std::time::Duration;

use kayak_core::node::Unit;
use tokio::sync::watch;
use tokio::time::{Instant, timeout};

use super::recipe::Recipe;
use crate::content;

/// Files that are written together come one after another: after so long without one it is over.
const QUIET: Duration = Duration::from_millis(500);
/// Who writes without end is not waited for.
const RESTLESS: Duration = Duration::from_secs(5);

/// What is wanted of a unit that runs.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Wanted {
    /// Nothing: it runs as it should.
    Same,
    /// Another start, with the reason.
    Other(String),
    /// Its end.
    Stop,
}

/// Looks at what the unit was started with, and at what it would be started with now.
pub(super) struct Changes {
    wished: watch::Receiver<Option<Unit>>,
    files: content::Watch,
}

impl Changes {
    /// Watches from now on; the recipe is to be made after this.
    pub(super) fn new(wished: watch::Receiver<Option<Unit>>, unit: &Unit) -> io::Result<Self> {
        Ok(Self { wished, files: content::Watch::new(&unit.files)? })
    }

    /// Waits until something else than `running` is wanted.
    pub(super) async fn differ(&mut self, running: &Recipe) -> io::Result<Wanted> {
        loop {
            match self.wanted(running)? {
                Wanted::Same => self.event().await?,
                other @ (Wanted::Other(_) | Wanted::Stop) => return Ok(other),
            }
        }
    }

    /// Waits until nothing changes any more.
    pub(super) async fn settle(&mut self) -> io::Result<()> {
        let start = Instant::now();
        while start.elapsed() < RESTLESS
            && let Ok(event) = timeout(QUIET, self.event()).await
        {
            event?;
            if wish(&mut self.wished).is_none() {
                return Ok(());
            }
        }
        Ok(())
    }

    pub(super) fn wanted(&mut self, running: &Recipe) -> io::Result<Wanted> {
        let Some(unit) = wish(&mut self.wished) else {
            return Ok(Wanted::Stop);
        };
        Ok(running.difference(&Recipe::of(&unit)?).map_or(Wanted::Same, Wanted::Other))
    }

    async fn event(&mut self) -> io::Result<()> {
        tokio::select! {
            // That nobody is left who could wish is found by the look that follows.
            _either = self.wished.changed() => Ok(()),
            event = self.files.event() => event,
        }
    }
}

/// Returns what is wished now; nothing also when nobody is left who could.
pub(super) fn wish(wished: &mut watch::Receiver<Option<Unit>>) -> Option<Unit> {
    wished.has_changed().ok()?;
    wished.borrow_and_update().clone()
}
