//! Commands over all partitions: each is asked in its turn, wherever it is, and the answers are
//! gathered into one reply.

use super::Client;
use crate::command::spread::{Answer, Question, Scan};
use crate::glob;
use crate::resp::encode::Encoder;

impl Client {
    pub(super) async fn count(&self, database: u8) -> u64 {
        let mut keys = 0;
        for partition in 0..self.core.routes.partitions() {
            if let Answer::Count(n) = self.core.ask(partition, Question::Count { database }).await {
                keys += n;
            }
        }
        keys
    }

    /// Clears every partition; what one of them refused is the error reply.
    pub(super) async fn clear(&self, database: Option<u8>) -> Result<(), Vec<u8>> {
        let mut cleared = Ok(());
        for partition in 0..self.core.routes.partitions() {
            let question = Question::Clear { database };
            if let Answer::Refused(reply) = self.core.ask(partition, question).await {
                cleared = Err(reply);
            }
        }
        cleared
    }

    pub(super) async fn random(&self, database: u8) -> Option<Vec<u8>> {
        let partitions = self.core.routes.partitions() as u64;
        let seed = self.core.reactor.random();
        for n in 0..partitions {
            let partition =
                usize::try_from((seed % partitions + n) % partitions).expect("below a usize");
            if let Answer::Key(Some(key)) = self
                .core
                .ask(partition, Question::Random { database, seed })
                .await
            {
                return Some(key);
            }
        }
        None
    }

    /// One step of a scan: asks partition after partition until enough keys were looked at, or none
    /// is left.
    pub(super) async fn scan(&self, scan: Scan, encoder: &mut Encoder<'_>) {
        let Scan {
            database,
            after,
            count,
            pattern,
            only_type,
        } = scan;
        let (keys, next) = self.scan_keys(database, after, count).await;
        let wanted = |key: &&Vec<u8>| {
            pattern
                .as_ref()
                .is_none_or(|pattern| glob::matches(pattern, key, glob::Case::Sensitive))
                && only_type
                    .as_ref()
                    .is_none_or(|name| name.eq_ignore_ascii_case(b"string"))
        };
        let keys: Vec<_> = keys.iter().filter(wanted).collect();
        let cursor = next.map_or(0, |after| self.core.shared.keep_cursor(after));
        encoder.array(2);
        encoder.bulk(cursor.to_string().as_bytes());
        encoder.array(keys.len());
        keys.into_iter().for_each(|key| encoder.bulk(key));
    }

    async fn scan_keys(
        &self,
        database: u8,
        after: Option<Vec<u8>>,
        count: usize,
    ) -> (Vec<Vec<u8>>, Option<Vec<u8>>) {
        let routes = &self.core.routes;
        let first = after.clone().unwrap_or_else(|| vec![database]);
        let mut keys = Vec::new();
        let mut after = after;
        for partition in routes.partition_of(&first)..routes.partitions() {
            // At least one more key: so the place to go on at is always a key, and never the edge
            // of a partition.
            let count = count.saturating_sub(keys.len()).max(1);
            let question = Question::Scan {
                database,
                after: after.take(),
                count,
            };
            let Answer::Keys(more, next) = self.core.ask(partition, question).await else {
                break;
            };
            keys.extend(more);
            if next.is_some() {
                return (keys, next);
            }
        }
        (keys, None)
    }

    pub(super) async fn keys(&self, database: u8, pattern: &[u8], encoder: &mut Encoder<'_>) {
        let (mut found, mut after) = (Vec::new(), None);
        loop {
            let (keys, next) = self.scan_keys(database, after, 1000).await;
            found.extend(
                keys.into_iter()
                    .filter(|key| glob::matches(pattern, key, glob::Case::Sensitive)),
            );
            self.core.next_turn(true).await;
            match next {
                Some(next) => after = Some(next),
                None => break,
            }
        }
        encoder.array(found.len());
        found.iter().for_each(|key| encoder.bulk(key));
    }
}
