//! A disk that is hundreds of times slower than those of the others: who leads on it hands over.

use super::*;

/// Time within which a slow node has handed over what it led, and some more.
const HANDED_OVER: Duration = Duration::from_secs(3);

impl Run {
    /// Returns how many partitions a machine leads.
    fn led_by(&self, machine: usize) -> u32 {
        let shards = self.nodes[machine]
            .life
            .iter()
            .flat_map(|life| &life.shards);
        let mut count = 0;
        for shard in shards {
            shard.look_at_partitions(|partition, _, _| count += u32::from(partition.leads()));
        }
        count
    }

    fn go_on(&mut self, length: Duration) {
        let end = self.world.now() + length;
        self.until(end, Deaths::None, |_| false).unwrap();
    }
}

#[test]
fn who_leads_on_a_slow_disk_hands_over() {
    for seed in 1..=6 {
        let plan = Plan {
            seed,
            faults: Faults::none(),
            length: Duration::from_secs(60),
            nodes: 3,
            spares: 0,
            shards: 1,
            clients: 6,
            rate: 500,
            damages: 0,
            deaths: Deaths::None,
            plant: Plant::default(),
        };
        let mut run = Run::prepare(&plan, None, &Rc::default()).unwrap();
        run.go_on(Duration::from_secs(3));
        let most = (0..3).max_by_key(|machine| run.led_by(*machine)).unwrap();
        let led = run.led_by(most);
        assert!(led > 0, "seed {seed}");
        run.world.slow_disk(u32::try_from(most).unwrap(), 400);
        run.go_on(HANDED_OVER);
        assert_eq!(run.led_by(most), 0, "seed {seed}: {led} before");
        let all: u32 = (0..3).map(|machine| run.led_by(machine)).sum();
        assert!(all >= led, "seed {seed}: others lead");
        // Nobody takes it back while the disk is slow.
        run.go_on(HANDED_OVER);
        assert_eq!(run.led_by(most), 0, "seed {seed}");
    }
}
