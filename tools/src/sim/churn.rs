//! Disks that are lost, and the operator who has the nodes that come back with empty ones replaced. One disk at a
//! time: the next is lost once the newcomer votes in every partition, since what only two of three replicas
//! had may be on one disk now.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::Duration;

use ashlar_io::rng::Rng;

use super::client::{Crowd, hear};
use super::wire::{Reply, command};

/// Probability that a run loses disks, and that a death in such a run is one.
const LOSES: f64 = 0.4;
const LOST: f64 = 0.3;
/// Pause of the operator between two looks.
const PAUSE: Duration = Duration::from_millis(100);

/// What the operator is to do.
#[derive(Debug)]
pub(super) struct Churn {
    is_on: bool,
    /// The member whose disk was lost, until it votes again.
    lost: RefCell<Option<String>>,
    /// Disks that were lost and replaced.
    pub(super) replaced: Cell<u64>,
}

impl Churn {
    /// Draws whether a run loses disks.
    pub(super) fn draw(rng: &mut Rng, is_possible: bool) -> Rc<Self> {
        let is_on = rng.chance(LOSES) && is_possible;
        Rc::new(Self {
            is_on,
            lost: RefCell::default(),
            replaced: Cell::default(),
        })
    }

    /// Says whether a node that dies now loses its disk.
    pub(super) fn loses(&self, rng: &mut Rng) -> bool {
        self.is_on && self.is_quiet() && rng.chance(LOST)
    }

    /// Has the operator see to a member that has lost its disk.
    pub(super) fn lost(&self, name: String) {
        *self.lost.borrow_mut() = Some(name);
    }

    /// Says whether every member has its place.
    pub(super) fn is_quiet(&self) -> bool {
        self.lost.borrow().is_none()
    }
}

/// Sees to lost disks as long as the run goes on.
pub(super) async fn operate(crowd: Rc<Crowd>, churn: Rc<Churn>, mut rng: Rng) {
    // A node may tell what was so long ago: numbers only grow, so who knows the last one cannot be misled.
    let mut numbers: BTreeMap<String, u64> = BTreeMap::new();
    loop {
        crowd.reactor.sleep(PAUSE).await;
        let lost = churn.lost.borrow().clone();
        let Some(name) = lost else { continue };
        let before = numbers.get(&name).copied();
        let before = before.unwrap_or(crowd.servers.len() as u64);
        replace(&crowd, &mut rng, &name).await;
        let number = settle(&crowd, &mut rng, &name, before).await;
        numbers.insert(name, number);
        churn.replaced.set(churn.replaced.get() + 1);
        *churn.lost.borrow_mut() = None;
    }
}

/// Asks some node.
async fn ask(crowd: &Crowd, rng: &mut Rng, words: &[&str]) -> Option<Reply> {
    let mut socket = crowd.connect(rng).await?;
    let mut bytes = Vec::new();
    command(&mut bytes, words);
    socket.send(&bytes);
    hear(crowd, &mut socket, &mut Vec::new()).await
}

/// Returns the lines of the list of members that some node knows.
async fn list(crowd: &Crowd, rng: &mut Rng) -> Vec<String> {
    let Some(Reply::Array(lines)) = ask(crowd, rng, &["KV.MEMBER", "LIST"]).await else {
        return Vec::new();
    };
    let line = |reply: Reply| match reply {
        Reply::Bulk(Some(line)) => String::from_utf8_lossy(&line).into_owned(),
        _ => String::new(),
    };
    lines.into_iter().map(line).collect()
}

fn value<'a>(line: &'a str, key: &str) -> Option<&'a str> {
    let words = line.split(' ').filter_map(|word| word.split_once('='));
    let mut found = words.filter(|(name, _)| *name == key);
    found.next().map(|(_, value)| value)
}

/// Asks until the member is replaced; whoever says that it has that disk has done it before.
async fn replace(crowd: &Crowd, rng: &mut Rng, name: &str) {
    loop {
        match ask(crowd, rng, &["KV.MEMBER", "REPLACE", name]).await {
            Some(Reply::Ok) => return,
            Some(Reply::Error(text))
                if text.contains("has that disk") || text.contains("already, and serves") =>
            {
                return;
            }
            _ => crowd.reactor.sleep(PAUSE).await,
        }
    }
}

/// Waits until a node says that the newcomer, whose number is above `before`, votes everywhere, and only
/// members do; returns the number.
async fn settle(crowd: &Crowd, rng: &mut Rng, name: &str, before: u64) -> u64 {
    loop {
        let lines = list(crowd, rng).await;
        let number = |line: &str, key: &str| value(line, key).and_then(|n| n.parse::<u64>().ok());
        let is_settled = |line: &String| {
            number(line, "votes") == number(line, "partitions")
                && number(line, "learns") == Some(0)
                && number(line, "leaving") == Some(0)
        };
        let of = lines.iter().find(|line| value(line, "name") == Some(name));
        let came = of.and_then(|line| number(line, "node"));
        if let Some(came) = came.filter(|number| *number > before)
            && lines.iter().all(is_settled)
        {
            return came;
        }
        crowd.reactor.sleep(PAUSE).await;
    }
}
