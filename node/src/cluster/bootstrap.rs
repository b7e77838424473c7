//! The first members of a cluster agree on it, over sockets: each asks all others until the cluster
//! is decided, and answers what it is asked. Who comes to a cluster that is there waits in the same way
//! until it was made a member. Not the rules of agreement, which are in `paxos`.
//!
//! Each question is a connection of its own; an answer belongs to the question that it follows, so
//! none is taken for another's. That costs a few connections in the life of a cluster.
//!
//! Invariants:
//! 1. Nothing is proposed before every listed member was heard of and has endorsed the list.
//! 2. An answer leaves after what it promises is durable; a failed write ends the bootstrap.
//! 3. A question takes [`QUESTION_LIMIT`] at most, and at most [`CALLERS_MAX`] are answered at once.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::future::{Future, poll_fn};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Poll, Waker};
use std::time::Duration;

use ashlar_consensus::NodeId;
use ashlar_io::{Listener, Monotonic, Reactor, Socket};

use super::asking::{Asked, QUESTION_LIMIT, ask_at};
use super::form::ClusterError;
use super::founder::Founder;
use super::paxos::{Acceptor, Proposer, Vote};
use super::question::{Answer, Ask, Asker, Question};
use super::{ClusterId, Decree, Member, Roster, StoreId, record};
use crate::config::Listed;
use crate::format::FormatError;
use crate::peer::connection::Talk;
use crate::peer::greeting::{Greeting, Reason, Refusal};
use crate::peer::patience::all;

/// Callers that are answered at once; more are sent away.
const CALLERS_MAX: u32 = 32;
/// Longest pause before the others are asked again.
const PAUSE_MS: u64 = 250;
/// Longest pause after an attempt that came to nothing; doubles up to a second.
const RETRY_MS: u64 = 100;
const RETRY_MS_MAX: u64 = 1_000;
/// How much longer each further member waits with its first attempt: mostly the first one decides.
const DEFERENCE_MS: u64 = 300;
/// Time between two lines that say who is missing, and before the first.
const TELL_EVERY: Duration = Duration::from_secs(10);
const TELL_FIRST: Duration = Duration::from_secs(1);

/// What a bootstrap is begun with.
#[derive(Clone, Debug)]
pub struct Setup {
    /// The data directory, where promises are kept.
    pub data: PathBuf,
    /// Where to listen for the others.
    pub listen: SocketAddr,
    /// This node, its disk and its list of members.
    pub asker: Asker,
    /// Ends the bootstrap when it becomes true: the process is to stop.
    pub stop: Arc<AtomicBool>,
}

/// A bootstrap that goes on.
struct Bootstrap {
    reactor: Reactor,
    setup: Setup,
    founder: Founder,
    acceptor: RefCell<Acceptor>,
    /// Somebody changes the acceptor, and these wait until it is done.
    changing: Cell<bool>,
    waiting: RefCell<Vec<Waker>>,
    decided: RefCell<Option<Found>>,
    fatal: RefCell<Option<ClusterError>>,
    callers: Cell<u32>,
    /// The cluster is there, and this node is no member yet.
    is_late: Cell<bool>,
    /// What was last logged of each member.
    said: RefCell<BTreeMap<String, String>>,
}

/// A cluster, and this node's place in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// How the cluster began.
    pub decree: Decree,
    /// Who its members are now, as far as is known.
    pub roster: Roster,
    /// This node.
    pub own: Member,
}

/// Finds the cluster of this node, or founds it with the others, or waits until it is made a member; returns
/// what was found, which the caller has to keep before it uses it.
///
/// # Errors
/// The address cannot be listened on, a promise cannot be read or kept, the node was replaced, or it
/// is to stop.
///
/// # Panics
/// When the node is not in its own list.
pub async fn found(reactor: &Reactor, setup: Setup) -> Result<Found, ClusterError> {
    let acceptor = record::load(reactor, &setup.data).await?;
    let addr = setup.listen;
    let listener =
        Listener::bind(reactor, addr).map_err(|error| ClusterError::Listen { addr, error })?;
    let founder = Founder {
        asker: setup.asker.clone(),
    };
    let bootstrap = Rc::new(Bootstrap {
        reactor: reactor.clone(),
        setup,
        founder,
        acceptor: RefCell::new(acceptor),
        changing: Cell::new(false),
        waiting: RefCell::default(),
        decided: RefCell::default(),
        fatal: RefCell::default(),
        callers: Cell::default(),
        is_late: Cell::default(),
        said: RefCell::default(),
    });
    let mut answering = pin!(listen(Rc::clone(&bootstrap), listener));
    let mut asking = pin!(bootstrap.decide());
    poll_fn(|context| match asking.as_mut().poll(context) {
        Poll::Ready(decided) => Poll::Ready(decided),
        Poll::Pending => answering.as_mut().poll(context).map(|never| match never {}),
    })
    .await
}

/// Lets callers in until it is dropped.
async fn listen(bootstrap: Rc<Bootstrap>, mut listener: Listener) -> std::convert::Infallible {
    loop {
        match listener.accept().await {
            Ok(socket) if bootstrap.callers.get() < CALLERS_MAX => {
                let answering = answer(Rc::clone(&bootstrap), socket);
                bootstrap.reactor.spawn(answering);
            }
            Ok(_) => {}
            Err(error) => {
                bootstrap.say("", format!("cannot accept a caller: {error}"));
                let pause = Duration::from_millis(PAUSE_MS);
                bootstrap.reactor.sleep(pause).await;
            }
        }
    }
}

/// Answers one question.
async fn answer(bootstrap: Rc<Bootstrap>, socket: Socket) {
    bootstrap.callers.set(bootstrap.callers.get() + 1);
    let deadline = bootstrap.reactor.now() + QUESTION_LIMIT;
    let mut talk = Talk::new(socket, deadline);
    match talk.hear(&bootstrap.reactor).await {
        Ok(Greeting::Question(question)) => {
            if let Some(answer) = bootstrap.answer(&question).await {
                talk.say(&answer);
            }
        }
        Ok(Greeting::Hello(_)) => {
            let text = format!("{} has not found its cluster yet", bootstrap.own_name());
            talk.say(&Greeting::Refused(Refusal::new(Reason::Unanswered, text)));
        }
        Ok(_) | Err(_) => {}
    }
    bootstrap.callers.set(bootstrap.callers.get() - 1);
}

impl Bootstrap {
    fn own_name(&self) -> &str {
        &self.setup.asker.name
    }

    /// Logs what is wrong with a member, once as long as it stays the same.
    fn say(&self, of: &str, text: String) {
        let mut said = self.said.borrow_mut();
        if said.get(of) != Some(&text) {
            tracing::warn!("{text}");
            said.insert(of.to_owned(), text);
        }
    }

    /// Lets `act` change the acceptor, and keeps what it changed. Nothing is returned when that
    /// fails; the bootstrap then ends.
    async fn change<T>(&self, act: impl FnOnce(&mut Acceptor) -> T) -> Option<T> {
        poll_fn(|context| {
            if !self.changing.replace(true) {
                return Poll::Ready(());
            }
            self.waiting.borrow_mut().push(context.waker().clone());
            Poll::Pending
        })
        .await;
        let before = self.acceptor.borrow().clone();
        let mut next = before.clone();
        let answer = act(&mut next);
        let mut kept = self.fatal.borrow().is_none();
        if kept && next != before {
            kept = self.keep(next).await;
        }
        self.changing.set(false);
        self.waiting.take().into_iter().for_each(Waker::wake);
        kept.then_some(answer)
    }

    async fn keep(&self, acceptor: Acceptor) -> bool {
        let saved: Result<(), FormatError> =
            record::save(&self.reactor, &self.setup.data, &acceptor).await;
        match saved {
            Ok(()) => {
                *self.acceptor.borrow_mut() = acceptor;
                true
            }
            Err(error) => {
                *self.fatal.borrow_mut() = Some(error.into());
                false
            }
        }
    }

    async fn answer(&self, question: &[u8]) -> Option<Greeting> {
        let decided = self
            .decided
            .borrow()
            .as_ref()
            .map(|found| found.decree.clone());
        let act =
            |acceptor: &mut Acceptor| self.founder.answer(acceptor, decided.as_ref(), question);
        let (answer, learned) = self.change(act).await?;
        if let Greeting::Refused(refusal) = &answer {
            self.say("a caller", format!("a caller is refused: {}", refusal.text));
        }
        if let Some(decree) = learned {
            self.learn(decree);
        }
        Some(answer)
    }

    /// Takes in what is decided.
    fn learn(&self, decree: Decree) {
        let roster = Roster::founded(&decree);
        self.learn_members(decree, roster);
    }

    /// Takes in who the members are.
    fn learn_members(&self, decree: Decree, roster: Roster) {
        let own = roster.member(self.own_name());
        match own.filter(|own| own.store == self.setup.asker.store) {
            Some(own) => {
                let own = own.clone();
                *self.decided.borrow_mut() = Some(Found {
                    decree,
                    roster,
                    own,
                });
            }
            None => {
                let text = format!(
                    "cluster {} was founded without this node and its disk: {} was replaced, or is no member",
                    decree.cluster,
                    self.own_name()
                );
                *self.fatal.borrow_mut() = Some(ClusterError::Replaced(text));
            }
        }
    }

    /// Asks one member.
    async fn ask(&self, peer: &Listed, ask: &Ask) -> Asked {
        let question = Question {
            asker: self.setup.asker.clone(),
            ask: ask.clone(),
        };
        ask_at(&self.reactor, peer.addr, &question).await
    }

    /// Asks all other members at once; takes in what they know and why they refuse, and returns the
    /// answers, and who has not given one and why.
    async fn ask_all(&self, ask: &Ask) -> (Vec<(NodeId, Answer)>, Vec<String>) {
        let others = self.founder.others();
        let asking = others.iter().map(|(_, peer)| self.ask(peer, ask)).collect();
        let (mut answers, mut absent) = (Vec::new(), Vec::new());
        for ((node, peer), asked) in others.iter().zip(all(asking).await) {
            match asked {
                Asked::Answered(Answer::Decided(decree)) => self.learn(decree),
                Asked::Answered(Answer::Joined(decree, roster)) => {
                    self.learn_members(decree, roster);
                }
                Asked::Answered(answer) => answers.push((*node, answer)),
                Asked::Refused(refusal)
                    if matches!(refusal.reason, Reason::Stranger | Reason::Store) =>
                {
                    self.is_late.set(true);
                    self.say("the cluster", refusal.text);
                    absent.push(format!("{} (it refuses)", peer.name));
                }
                Asked::Refused(refusal) => {
                    let text =
                        format!("refused at {} ({}): {}", peer.addr, peer.name, refusal.text);
                    self.say(&peer.name, text);
                    absent.push(format!("{} (it refuses)", peer.name));
                }
                Asked::Lost(text) => absent.push(format!("{} ({}: {text})", peer.name, peer.addr)),
            }
        }
        (answers, absent)
    }

    /// Asks the others until the cluster is decided.
    async fn decide(&self) -> Result<Found, ClusterError> {
        let start = self.reactor.now();
        let mut tell_at = start + TELL_FIRST;
        let mut proposer: Option<Proposer> = None;
        let mut attempts = 0;
        loop {
            let (answers, absent) = self.ask_all(&Ask::Meet).await;
            if let Some(found) = self.outcome()? {
                return Ok(found);
            }
            let Some(members) = self.met(&answers) else {
                self.tell(&mut tell_at, &absent);
                self.pause(PAUSE_MS).await;
                continue;
            };
            let proposer = match &mut proposer {
                Some(same) if same.members() == members => same,
                other => other.insert(Proposer::new(self.founder.node(), members)),
            };
            if attempts == 0 {
                let place = self.founder.node().0 - 1;
                self.pause_for(place * DEFERENCE_MS).await;
            }
            attempts += 1;
            self.attempt(proposer).await;
            if let Some(found) = self.outcome()? {
                self.ask_all(&Ask::Learn(found.decree.clone())).await;
                return Ok(found);
            }
            self.tell(&mut tell_at, &proposer.unendorsed());
            self.pause((RETRY_MS << attempts.min(10)).min(RETRY_MS_MAX))
                .await;
        }
    }

    /// Returns what was decided, or why nothing will be.
    fn outcome(&self) -> Result<Option<Found>, ClusterError> {
        if let Some(fatal) = self.fatal.take() {
            return Err(fatal);
        }
        if self.setup.stop.load(Ordering::Acquire) {
            return Err(ClusterError::Stopped);
        }
        Ok(self.decided.borrow().clone())
    }

    /// Returns the members with their disks, when all were met.
    fn met(&self, answers: &[(NodeId, Answer)]) -> Option<Vec<Member>> {
        let store = |(node, answer): &(NodeId, Answer)| match answer {
            Answer::Met(store) => Some((*node, *store)),
            _ => None,
        };
        let stores: Vec<(NodeId, StoreId)> = answers.iter().filter_map(store).collect();
        self.founder.members(&stores)
    }

    /// Says who is missing, from time to time.
    fn tell(&self, at: &mut Monotonic, absent: &[impl AsRef<str>]) {
        let now = self.reactor.now();
        if now >= *at && !absent.is_empty() {
            *at = now + TELL_EVERY;
            let absent: Vec<&str> = absent.iter().map(AsRef::as_ref).collect();
            let absent = absent.join(", ");
            match self.is_late.get() {
                true => tracing::info!(
                    "{} waits to be made a member of a cluster that is there: {absent}",
                    self.own_name()
                ),
                false => tracing::info!(
                    "the cluster is founded once all its members agree; waiting for {absent}"
                ),
            }
        }
    }

    /// Pauses for a random time up to `ms`.
    async fn pause(&self, ms: u64) {
        self.pause_for(1 + self.reactor.random() % ms).await;
    }

    async fn pause_for(&self, ms: u64) {
        self.reactor.sleep(Duration::from_millis(ms)).await;
    }

    /// Tries once to have something decided.
    async fn attempt(&self, proposer: &mut Proposer) {
        let own = self.founder.own();
        let members = proposer.members().to_vec();
        let promised = self.acceptor.borrow().promised;
        let ballot = proposer.begin(promised);
        let prepare = |acceptor: &mut Acceptor| acceptor.prepare(own, &members, ballot);
        let Some(vote) = self.change(prepare).await else {
            return;
        };
        self.note(&members, own.0, &vote);
        if !matches!(vote, Vote::Promised(_)) {
            return;
        }
        proposer.take(own.0, ballot, &vote);
        let ask = Ask::Prepare(ballot, members.clone());
        self.poll(proposer, &ask).await;
        let half = || u128::from(self.reactor.random());
        let Some(decree) = proposer.propose(ClusterId(half() << 64 | half())) else {
            return;
        };
        let accept = |acceptor: &mut Acceptor| acceptor.accept(own, ballot, &decree);
        let Some(vote) = self.change(accept).await else {
            return;
        };
        proposer.take(own.0, ballot, &vote);
        self.poll(proposer, &Ask::Accept(ballot, decree)).await;
        if let Some(decree) = proposer.decided() {
            self.learn(decree);
        }
    }

    /// Asks all others for their vote.
    async fn poll(&self, proposer: &mut Proposer, ask: &Ask) {
        let (Ask::Prepare(ballot, _) | Ask::Accept(ballot, _)) = ask else {
            unreachable!("only these are voted on")
        };
        let (answers, _) = self.ask_all(ask).await;
        for (node, answer) in answers {
            if let Answer::Vote(vote) = answer {
                self.note(proposer.members(), node, &vote);
                proposer.take(node, *ballot, &vote);
            }
        }
    }

    /// Says which disks an acceptor knows that are others now.
    fn note(&self, members: &[Member], from: NodeId, vote: &Vote) {
        let Vote::Elsewhere(known) = vote else { return };
        let name = |member: &&Member| member.node == from;
        let who = members.iter().find(name).map_or("", |member| &member.name);
        let replaced = members.iter().filter(|member| !known.contains(member));
        for member in replaced {
            let text = format!(
                "{who} has agreed to found the cluster with another disk of {}, which was replaced since: \
                 put its data directory back, or make those of all members anew",
                member.name
            );
            self.say(&format!("disk of {}", member.name), text);
        }
    }
}

#[cfg(test)]
#[path = "bootstrap/tests.rs"]
mod tests;
