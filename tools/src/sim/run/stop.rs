//! The end of a run: every node that lives is asked to stop, as by a signal, and must come to its end by itself. What
//! keeps a shard busy without end, its own upkeep or its peers, is found here.

use super::*;

/// How long a node may take to stop. Its connections are gone, and nothing is wrong any more.
const STOPPED_WITHIN: Duration = Duration::from_secs(10);
/// When a shard whose inbox was full is asked again.
const ASKED_AGAIN: Duration = Duration::from_millis(1);

impl Run {
    /// Stops all nodes.
    pub(super) fn stop(&mut self) -> Result<(), String> {
        let asked: Vec<(usize, u64)> = (0..)
            .zip(&self.nodes)
            .map(|(at, node)| (at, node.lives))
            .collect();
        let end = self.world.now() + STOPPED_WITHIN;
        while !self.ask_to_stop() && self.world.now() < end {
            let soon = self.world.now() + ASKED_AGAIN;
            self.until(soon, Deaths::None, |_| false)?;
        }
        let has_stopped = |run: &Self| {
            asked.iter().all(|(at, lives)| {
                let node = &run.nodes[*at];
                let life = node.life.as_ref().filter(|_| node.lives == *lives);
                life.is_none_or(Life::has_stopped)
            })
        };
        self.until(end, Deaths::None, has_stopped)?;
        if has_stopped(self) {
            return Ok(());
        }
        Err(format!(
            "nodes did not stop within {STOPPED_WITHIN:?} after they were asked to; {}",
            self.describe()
        ))
    }

    /// Says whether every shard that lives was asked.
    fn ask_to_stop(&mut self) -> bool {
        let mut lives = self.nodes.iter_mut().filter_map(|node| node.life.as_mut());
        lives.all(Life::stop)
    }
}
