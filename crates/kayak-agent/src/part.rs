//! A part of the agent: tasks that are started anew when what they were started for changes.

use tokio::task::JoinSet;

/// Tasks and what they were started for. They end with it.
pub(crate) struct Part<I> {
    running: Option<(I, JoinSet<()>)>,
}

impl<I: PartialEq> Part<I> {
    pub(crate) fn new() -> Self {
        Self { running: None }
    }

    /// Makes the tasks be those for `input`: if it is what they were started for, they go on.
    pub(crate) fn ensure(&mut self, input: I, start: impl FnOnce(&I, &mut JoinSet<()>)) {
        if self.running.as_ref().is_some_and(|(known, _)| *known == input) {
            return;
        }
        // The old ones first: the new ones may need what they hold.
        self.running = None;
        let mut tasks = JoinSet::new();
        start(&input, &mut tasks);
        self.running = Some((input, tasks));
    }

    /// Waits until the tasks have ended by themselves.
    pub(crate) async fn ended(&mut self) {
        if let Some((_, tasks)) = &mut self.running {
            while tasks.join_next().await.is_some() {}
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    #[tokio::test]
    async fn tasks_go_on_until_their_input_changes() {
        let mut part = Part::new();
        let alive = Arc::new(());
        let ensure = |part: &mut Part<u8>, input| {
            let mut started = false;
            part.ensure(input, |_, tasks| {
                started = true;
                let alive = Arc::clone(&alive);
                tasks.spawn(async move {
                    std::future::pending::<()>().await;
                    drop(alive);
                });
            });
            started
        };
        assert!(ensure(&mut part, 1));
        assert!(!ensure(&mut part, 1));
        assert!(ensure(&mut part, 2));
        drop(part);
        while Arc::strong_count(&alive) > 1 {
            tokio::task::yield_now().await;
        }
    }
}
