//! The operator of a simulated cluster: has the nodes replaced that lose their disks, makes nodes members and has
//! members leave. One at a time: the next disk is lost once the newcomer votes in every partition, since what only two
//! of three replicas had may be on one disk now.

use std::cell::RefCell;
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

/// Something that the operator is asked to do.
#[derive(Clone, Debug)]
pub(super) enum Job {
    /// The member of this name has lost its disk.
    Replace(String),
    /// The node of this name, whose shard 0 listens there for peers, is to be a member.
    Add(String, String),
    /// The member of this name is to leave.
    Remove(String),
}

impl Job {
    /// Returns the name of the node that it is about.
    pub(super) fn name(&self) -> &String {
        let (Self::Replace(name) | Self::Add(name, _) | Self::Remove(name)) = self;
        name
    }
}

/// What the operator is to do.
#[derive(Debug)]
pub(super) struct Churn {
    loses: bool,
    /// Members that the cluster was founded with.
    founders: u32,
    /// What is being done, until it is.
    job: RefCell<Option<Job>>,
    /// What was done, until it is taken in.
    done: RefCell<Option<Job>>,
    /// What a node said last of the members.
    told: RefCell<Vec<String>>,
    /// What a node answered last that did not do it.
    refused: RefCell<Option<Reply>>,
}

impl Churn {
    /// Draws whether a run loses disks.
    pub(super) fn draw(rng: &mut Rng, is_possible: bool, founders: u32) -> Rc<Self> {
        Rc::new(Self {
            loses: rng.chance(LOSES) && is_possible,
            founders,
            job: RefCell::default(),
            done: RefCell::default(),
            told: RefCell::default(),
            refused: RefCell::default(),
        })
    }

    /// Says whether a node that dies now loses its disk.
    pub(super) fn loses(&self, rng: &mut Rng) -> bool {
        self.loses && self.is_quiet() && rng.chance(LOST)
    }

    /// Has the operator do something.
    pub(super) fn begin(&self, job: Job) {
        *self.job.borrow_mut() = Some(job);
    }

    /// Says whether every member has its place.
    pub(super) fn is_quiet(&self) -> bool {
        self.job.borrow().is_none() && self.done.borrow().is_none()
    }

    /// Says what is being done, and what some node last told of the members.
    pub(super) fn describe(&self) -> String {
        let (job, told) = (self.job.borrow(), self.told.borrow());
        let refused = self.refused.borrow();
        format!("{job:?}, answered {refused:?}, of {}", told.join(", "))
    }

    /// Takes what was done, if anything was since the last time.
    pub(super) fn take_done(&self) -> Option<Job> {
        self.done.borrow_mut().take()
    }
}

/// Does what is asked for as long as the run goes on.
pub(super) async fn operate(crowd: Rc<Crowd>, churn: Rc<Churn>, mut rng: Rng) {
    // A node may tell what was so long ago: numbers only grow, so who knows the last one cannot be misled.
    let mut numbers: BTreeMap<String, u64> = BTreeMap::new();
    loop {
        crowd.reactor.sleep(PAUSE).await;
        let job = churn.job.borrow().clone();
        let Some(job) = job else { continue };
        let name = job.name();
        let before = numbers.get(name).copied();
        let before = before.unwrap_or(u64::from(churn.founders));
        match &job {
            Job::Replace(name) => replace(&crowd, &mut rng, (&churn, name)).await,
            Job::Add(name, addr) => add(&crowd, &mut rng, (&churn, name, addr)).await,
            Job::Remove(name) => remove(&crowd, &mut rng, (&churn, name)).await,
        }
        match &job {
            Job::Remove(name) => settle_without(&crowd, &mut rng, (&churn, name)).await,
            Job::Replace(_) | Job::Add(..) => {
                let number = settle(&crowd, &mut rng, (&churn, &job), before).await;
                numbers.insert(name.clone(), number);
            }
        }
        *churn.done.borrow_mut() = churn.job.borrow_mut().take();
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
async fn replace(crowd: &Crowd, rng: &mut Rng, (churn, name): (&Churn, &str)) {
    loop {
        match ask(crowd, rng, &["KV.MEMBER", "REPLACE", name]).await {
            Some(Reply::Ok) => return,
            Some(Reply::Error(text))
                if text.contains("has that disk") || text.contains("already, and serves") =>
            {
                return;
            }
            other => {
                *churn.refused.borrow_mut() = other;
                crowd.reactor.sleep(PAUSE).await;
            }
        }
    }
}

/// Asks until the node is a member; who is one already was made one by an attempt whose answer was lost.
async fn add(crowd: &Crowd, rng: &mut Rng, (churn, name, addr): (&Churn, &str, &str)) {
    loop {
        match ask(crowd, rng, &["KV.MEMBER", "ADD", name, addr]).await {
            Some(Reply::Ok) => return,
            Some(Reply::Error(text))
                if text.contains("is a member already") || text.contains("already, and serves") =>
            {
                return;
            }
            other => {
                *churn.refused.borrow_mut() = other;
                crowd.reactor.sleep(PAUSE).await;
            }
        }
    }
}

/// Asks until the member is one no more.
async fn remove(crowd: &Crowd, rng: &mut Rng, (churn, name): (&Churn, &str)) {
    loop {
        match ask(crowd, rng, &["KV.MEMBER", "REMOVE", name]).await {
            Some(Reply::Ok) => return,
            Some(Reply::Error(text)) if text.contains("is no member") => return,
            other => {
                *churn.refused.borrow_mut() = other;
                crowd.reactor.sleep(PAUSE).await;
            }
        }
    }
}

/// Says whether the member of a line votes everywhere, and nobody votes who is no member.
fn is_settled(line: &str) -> bool {
    let number = |key: &str| value(line, key).and_then(|number| number.parse::<u64>().ok());
    number("votes") == number("partitions")
        && number("learns") == Some(0)
        && number("leaving") == Some(0)
}

/// Waits until a node says that who left is not a member and votes nowhere.
async fn settle_without(crowd: &Crowd, rng: &mut Rng, (churn, name): (&Churn, &str)) {
    loop {
        let lines = list(crowd, rng).await;
        churn.told.borrow_mut().clone_from(&lines);
        let is_there = lines.iter().any(|line| value(line, "name") == Some(name));
        if is_there {
            remove(crowd, rng, (churn, name)).await;
        }
        if !lines.is_empty() && !is_there && lines.iter().all(|line| is_settled(line)) {
            return;
        }
        crowd.reactor.sleep(PAUSE).await;
    }
}

/// Waits until a node says that the newcomer, whose number is above `before`, votes everywhere, and only
/// members do; returns the number.
async fn settle(crowd: &Crowd, rng: &mut Rng, (churn, job): (&Churn, &Job), before: u64) -> u64 {
    let name = job.name();
    loop {
        let lines = list(crowd, rng).await;
        churn.told.borrow_mut().clone_from(&lines);
        let number = |line: &str, key: &str| value(line, key).and_then(|n| n.parse::<u64>().ok());
        let of = lines
            .iter()
            .find(|line| value(line, "name") == Some(name.as_str()));
        if let (None, Job::Add(name, addr), false) = (of, job, lines.is_empty()) {
            // An earlier attempt to remove it, of which nobody knew what became, may have come last.
            add(crowd, rng, (churn, name, addr)).await;
        }
        let came = of.and_then(|line| number(line, "node"));
        if let Some(came) = came.filter(|number| *number > before)
            && lines.iter().all(|line| is_settled(line))
        {
            return came;
        }
        crowd.reactor.sleep(PAUSE).await;
    }
}
