//! Commands that wait for elements (`BLPOP` and its like), as a table: who waits for which keys, in which order they
//! came, and until when. Decides who is next; runs nothing, answers nobody and knows no time: see `core::blocking`.
//!
//! Invariants:
//! 1. A command is in the table under each of its keys, its deadline and its asker, or not at all.
//! 2. Of a key those come first that came first, also those that were run meanwhile, found nothing, and came back.
//! 3. The words of all are at most [`BYTES_MAX`]; what would be more is given back, to be refused.

use std::collections::{BTreeMap, BTreeSet};

use ashlar_io::Monotonic;
use ashlar_partition::collection::Family;

use crate::message::{Forward, Origin, Ticket};

/// Most bytes of words that wait on a shard.
pub const BYTES_MAX: usize = 64 << 20;

/// The place of a command among those that wait; it keeps it while it is run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// Goes up with each command.
    pub order: u64,
    /// What it waits for elements of.
    pub family: Family,
    /// Until when it waits; for ever when there is nothing.
    pub until: Option<Monotonic>,
}

/// What ended a wait that got no element.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// The time is over, `CLIENT UNBLOCK ... TIMEOUT` has said so, or nobody is there to be answered.
    Nothing,
    /// `CLIENT UNBLOCK ... ERROR`.
    Unblocked,
    /// This node leads the partition no more.
    SteppedDown,
    /// The node is stopping.
    Stopping,
}

/// One command that waits.
#[derive(Debug)]
pub struct Waiting {
    /// Its place.
    pub place: Place,
    /// Its keys, each with its database in front.
    pub keys: Vec<Vec<u8>>,
    /// The command.
    pub forward: Box<Forward>,
}

/// The commands of a shard that wait for elements.
#[derive(Debug, Default)]
pub struct Blocked {
    last: u64,
    bytes: usize,
    by_order: BTreeMap<u64, Waiting>,
    by_key: BTreeMap<(usize, Vec<u8>), BTreeSet<u64>>,
    by_deadline: BTreeSet<(Monotonic, u64)>,
    by_asker: BTreeMap<(Origin, Ticket), u64>,
}

impl Blocked {
    /// Returns a place behind all others.
    pub fn place(&mut self, family: Family, until: Option<Monotonic>) -> Place {
        self.last += 1;
        Place {
            order: self.last,
            family,
            until,
        }
    }

    /// Takes a command in.
    ///
    /// # Errors
    /// There is no room: it is given back.
    pub fn add(&mut self, waiting: Waiting) -> Result<(), Box<Forward>> {
        let bytes = waiting.forward.words.heap_bytes();
        if self.bytes + bytes > BYTES_MAX {
            return Err(waiting.forward);
        }
        self.bytes += bytes;
        let (order, partition) = (waiting.place.order, waiting.forward.partition);
        for key in &waiting.keys {
            let of_key = self.by_key.entry((partition, key.clone())).or_default();
            of_key.insert(order);
        }
        if let Some(until) = waiting.place.until {
            self.by_deadline.insert((until, order));
        }
        let asker = (waiting.forward.from, waiting.forward.ticket);
        self.by_asker.insert(asker, order);
        self.by_order.insert(order, waiting);
        Ok(())
    }

    /// Says whether nobody waits.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.by_order.is_empty()
    }

    /// Returns when the first wait is over.
    #[must_use]
    pub fn deadline(&self) -> Option<Monotonic> {
        self.by_deadline.first().map(|(until, _)| *until)
    }

    /// Takes the command out that waits longest for elements of a family under a key.
    pub fn take_first(
        &mut self,
        partition: usize,
        key: &[u8],
        family: Family,
    ) -> Option<Box<Waiting>> {
        let of_key = self.by_key.get(&(partition, key.to_vec()))?;
        let is_of = |order: &&u64| {
            let waiting = self.by_order.get(order);
            waiting.is_some_and(|waiting| waiting.place.family == family)
        };
        let order = *of_key.iter().find(is_of)?;
        self.take(order)
    }

    /// Takes a command out whose wait is over.
    pub fn take_due(&mut self, now: Monotonic) -> Option<Box<Waiting>> {
        let (until, order) = *self.by_deadline.first()?;
        match until <= now {
            true => self.take(order),
            false => None,
        }
    }

    /// Takes the command out that somebody asked for.
    pub fn take_asked(&mut self, from: Origin, ticket: Ticket) -> Option<Box<Waiting>> {
        let order = *self.by_asker.get(&(from, ticket))?;
        self.take(order)
    }

    /// Takes those out that fit, in their order.
    pub fn take_all(&mut self, fits: impl Fn(&Forward) -> bool) -> Vec<Box<Waiting>> {
        let fitting = self.by_order.values();
        let fitting = fitting.filter(|waiting| fits(&waiting.forward));
        let orders: Vec<u64> = fitting.map(|waiting| waiting.place.order).collect();
        let taken = orders.into_iter().filter_map(|order| self.take(order));
        taken.collect()
    }

    fn take(&mut self, order: u64) -> Option<Box<Waiting>> {
        let waiting = self.by_order.remove(&order)?;
        self.bytes -= waiting.forward.words.heap_bytes();
        for key in &waiting.keys {
            let key = (waiting.forward.partition, key.clone());
            if let Some(of_key) = self.by_key.get_mut(&key) {
                of_key.remove(&order);
                if of_key.is_empty() {
                    self.by_key.remove(&key);
                }
            }
        }
        if let Some(until) = waiting.place.until {
            self.by_deadline.remove(&(until, order));
        }
        let asker = (waiting.forward.from, waiting.forward.ticket);
        self.by_asker.remove(&asker);
        Some(Box::new(waiting))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::command::table;
    use crate::resp::{OwnedWords, Version};

    /// What the model keeps of a command: order, partition, family, keys, deadline, ticket.
    type Row = (u64, usize, Family, Vec<Vec<u8>>, Option<Monotonic>, u64);

    const FAMILIES: [Family; 2] = [Family::List, Family::SortedSet];

    fn waiting(row: &Row) -> Waiting {
        let (order, partition, family, keys, until, ticket) = row.clone();
        let words: Vec<&[u8]> = keys.iter().map(Vec::as_slice).collect();
        Waiting {
            place: Place {
                order,
                family,
                until,
            },
            forward: Box::new(Forward {
                from: Origin::Shard(1),
                connection: 7,
                ticket: Ticket(ticket),
                partition,
                command: &table::all()[0],
                words: OwnedWords::of(&words),
                database: 0,
                version: Version::Resp2,
                token: None,
                lost: None,
                place: None,
                ended: None,
            }),
            keys,
        }
    }

    fn check(taken: Option<Box<Waiting>>, model: &mut Vec<Row>, expected: Option<Row>) {
        let order = |row: &Row| row.0;
        assert_eq!(
            taken.map(|taken| taken.place.order),
            expected.as_ref().map(order)
        );
        model.retain(|row| Some(row.0) != expected.as_ref().map(order));
    }

    proptest! {
        /// A vector in order of arrival, searched from its front, says who is next.
        #[test]
        fn a_vector_in_order_of_arrival_says_the_same(
            steps in proptest::collection::vec((0_u8..6, 0_u8..3, 0_u8..3, 0_u8..2, 0_u64..40), 1..200)
        ) {
            let (mut blocked, mut model) = (Blocked::default(), Vec::<Row>::new());
            for (at, (step, one, other, kind, time)) in steps.into_iter().enumerate() {
                let (partition, family) = (usize::from(one % 2), FAMILIES[usize::from(kind)]);
                let now = Monotonic(time);
                match step {
                    0..=2 => {
                        let until = (step > 0).then_some(now);
                        let place = blocked.place(family, until);
                        let keys = vec![vec![one], vec![other]];
                        let row = (place.order, partition, family, keys, until, at as u64);
                        prop_assert!(blocked.add(waiting(&row)).is_ok());
                        model.push(row);
                    }
                    3 => {
                        let fits = |row: &&Row| {
                            row.1 == partition && row.2 == family && row.3.contains(&vec![other])
                        };
                        let expected = model.iter().find(fits).cloned();
                        check(blocked.take_first(partition, &[other], family), &mut model, expected.clone());
                        // It found nothing, and comes back to its place.
                        if let Some(row) = expected.filter(|_| time < 20) {
                            prop_assert!(blocked.add(waiting(&row)).is_ok());
                            model.push(row);
                            model.sort_by_key(|row| row.0);
                        }
                    }
                    4 => {
                        let due = model.iter().filter(|row| row.4.is_some_and(|until| until <= now));
                        let expected = due.min_by_key(|row| (row.4, row.0)).cloned();
                        check(blocked.take_due(now), &mut model, expected);
                    }
                    _ if kind == 0 => {
                        let expected = model.iter().find(|row| row.5 == time).cloned();
                        check(blocked.take_asked(Origin::Shard(1), Ticket(time)), &mut model, expected);
                    }
                    _ => {
                        let taken = blocked.take_all(|forward| forward.partition == partition);
                        let taken: Vec<u64> = taken.iter().map(|waiting| waiting.place.order).collect();
                        let fitting = model.iter().filter(|row| row.1 == partition);
                        prop_assert_eq!(taken, fitting.map(|row| row.0).collect::<Vec<u64>>());
                        model.retain(|row| row.1 != partition);
                    }
                }
                prop_assert_eq!(blocked.is_empty(), model.is_empty());
                prop_assert_eq!(blocked.deadline(), model.iter().filter_map(|row| row.4).min());
                prop_assert_eq!(blocked.by_order.len(), model.len());
                prop_assert_eq!(blocked.by_key.is_empty(), model.is_empty());
            }
            blocked.take_all(|_| true);
            prop_assert_eq!(blocked.bytes, 0);
        }
    }

    #[test]
    fn what_would_be_too_much_is_given_back() {
        let mut blocked = Blocked::default();
        let row = |order| {
            (
                order,
                0,
                Family::List,
                vec![vec![0; BYTES_MAX / 2]],
                None,
                order,
            )
        };
        assert!(blocked.add(waiting(&row(1))).is_ok());
        assert!(blocked.add(waiting(&row(2))).is_err());
        assert!(
            blocked
                .take_first(0, &vec![0; BYTES_MAX / 2], Family::SortedSet)
                .is_none()
        );
        assert!(
            blocked
                .take_first(0, &vec![0; BYTES_MAX / 2], Family::List)
                .is_some()
        );
        assert!(blocked.is_empty() && blocked.bytes == 0);
    }
}
