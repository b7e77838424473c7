//! What the tasks of connections tell their [`Peers`], and what it makes of it: events for the shard,
//! lines for the log. Nothing here waits, but for [`Peers::room`].

use std::rc::Rc;
use std::task::Poll;

use ashlar_consensus::NodeId;
use ashlar_io::SocketSender;

use super::assembly::Assembly;
use super::connection::Failed;
use super::greeting::{Greeting, Hello, Reason, Refusal};
use super::identity::Known;
use super::link::Link;
use super::{Event, Incoming, Peers};
use crate::cluster::answer_decided;
use crate::cluster::question::{Ask, Asker, Layout, Question};

impl Peers {
    pub(super) fn is_crowded(&self) -> bool {
        self.incoming_bytes.get() as u64 > self.options.queue_bytes_max
    }

    /// Waits until so much of what was received is taken that there is room for more.
    pub(super) async fn room(&self) {
        std::future::poll_fn(|context| {
            if !self.is_crowded() {
                return Poll::Ready(());
            }
            self.crowded.borrow_mut().push(context.waker().clone());
            Poll::Pending
        })
        .await;
    }

    pub(super) fn judge_caller(&self, hello: &Hello) -> Result<Rc<Link>, Refusal> {
        let link = self.links.borrow().get(&hello.from).cloned();
        let member = link.as_ref().map(|link| link.member.borrow());
        let known = member.as_deref().map(|member| Known {
            member,
            incarnation: link.as_ref().map_or(0, |link| link.incarnation.get()),
        });
        let own_name = self.own_name.borrow();
        let was_removed = self.has_removed(hello.from);
        (self.identity).judge_caller(hello, (known, was_removed), &own_name)?;
        drop(member);
        Ok(link.expect("who is no member was refused"))
    }

    /// Says whether a node was a member, as far as is known here.
    fn has_removed(&self, node: NodeId) -> bool {
        let cluster = self.cluster.borrow();
        (cluster.as_ref()).is_some_and(|(_, roster)| roster.has_removed(node))
    }

    pub(super) fn judge_called(&self, hello: &Hello, link: &Link) -> Result<(), Refusal> {
        let known = Known {
            member: &link.member.borrow(),
            incarnation: link.incarnation.get(),
        };
        self.identity.judge_called(hello, known)
    }

    /// Returns what this shard says to `to`.
    pub(super) fn hello(&self, to: NodeId) -> Hello {
        self.identity.hello(to, self.options.frame_bytes_max)
    }

    /// Answers a question of a node that has not found its cluster yet.
    pub(super) fn answer(&self, question: &[u8]) -> Greeting {
        match &*self.cluster.borrow() {
            Some((decree, roster)) => {
                let (answer, newer) = answer_decided(decree, roster, question);
                if newer.is_some() {
                    self.heard.replace(newer);
                }
                answer
            }
            None => {
                let text = "this shard answers no questions";
                Greeting::Refused(Refusal::new(Reason::Unanswered, text))
            }
        }
    }

    /// Returns the question that tells who the members are.
    pub(super) fn news(&self) -> Option<Vec<u8>> {
        let cluster = self.cluster.borrow();
        let (decree, roster) = cluster.as_ref()?;
        let asker = Asker {
            name: self.own_name.borrow().clone(),
            store: self.identity.store,
            layout: Layout {
                shards: self.identity.shards,
                partitions: self.identity.partitions,
                boundaries: 0,
            },
            list: Vec::new(),
        };
        let ask = Ask::Hear(decree.cluster, roster.clone());
        Some(Question { asker, ask }.encode())
    }

    /// Takes a connection whose handshake is done, in place of an earlier one; returns its number.
    pub(super) fn connected(&self, link: &Link, sender: SocketSender, hello: &Hello) -> u64 {
        let incarnation = hello.incarnation;
        self.end(link);
        let number = self.connections.get() + 1;
        self.connections.set(number);
        let now = self.reactor.now();
        let frame_bytes_max = self.options.frame_bytes_max.min(hello.frame_bytes_max);
        link.frame_bytes_max.set(frame_bytes_max);
        link.connect(number, sender, incarnation, now);
        link.trouble.take();
        link.denies.set(false);
        let (name, addr, shard) = (link.name(), link.addr(), self.identity.shard);
        let text = format!("shard {shard}: connected to {name} ({addr}), life {incarnation}");
        if shard == 0 {
            tracing::info!("{text}");
        } else {
            tracing::debug!("{text}");
        }
        self.push(link, Event::Connected { incarnation });
        number
    }

    /// Takes received bytes of a connection; its end, when it is over or they are no frames.
    pub(super) fn take(
        &self,
        link: &Link,
        number: u64,
        assembly: &mut Assembly,
        mut bytes: &[u8],
    ) -> Result<(), String> {
        while !bytes.is_empty() {
            if !link.is_current(number) {
                return Err("it was replaced by another connection".to_owned());
            }
            let spare = || self.spares.borrow_mut().pop().unwrap_or_default();
            let taken = assembly.take(bytes, spare);
            let (used, frame) = taken.map_err(|error| error.to_string())?;
            bytes = &bytes[used..];
            link.count(|tally| tally.in_bytes += used as u64);
            if let Some(frame) = frame {
                link.count(|tally| tally.in_frames += 1);
                let held = self.incoming_bytes.get() + frame.memory_bytes();
                self.incoming_bytes.set(held);
                self.push(link, Event::Frame(frame));
            }
        }
        Ok(())
    }

    /// A connection has ended by itself.
    pub(super) fn ended(&self, link: &Link, number: u64, why: &str) {
        if link.is_current(number) {
            self.end(link);
            let text = format!("lost the connection to {}: {why}", link.name());
            self.note_trouble(link, Failed::Lost(text));
        }
    }

    /// Ends a link's connection, if it has one.
    pub(super) fn end(&self, link: &Link) {
        let apart = self.apart(link.node());
        if link.disconnect(self.reactor.now(), apart).is_some() {
            self.push(link, Event::Disconnected);
        }
    }

    pub(super) fn push(&self, link: &Link, event: Event) {
        let from = link.node();
        self.incoming
            .borrow_mut()
            .push_back(Incoming { from, event });
    }

    /// Logs why there is no connection, once as long as it stays the same. All shards of a node lose
    /// a peer together: the first of them tells it.
    pub(super) fn note_trouble(&self, link: &Link, failed: Failed) {
        let (text, loud) = match failed {
            Failed::Lost(text) => (text, self.identity.shard == 0),
            Failed::Refused(text) => (text, true),
        };
        if link.trouble.borrow().as_ref() == Some(&text) {
            return;
        }
        let shard = self.identity.shard;
        if loud {
            tracing::warn!("shard {shard}: {text}");
        } else {
            tracing::debug!("shard {shard}: {text}");
        }
        *link.trouble.borrow_mut() = Some(text);
    }

    /// Logs what is wrong with callers that are no members, once as long as it stays the same.
    pub(super) fn note_stranger(&self, text: &str) {
        if *self.stranger.borrow() != text {
            tracing::warn!("shard {}: {text}", self.identity.shard);
            text.clone_into(&mut self.stranger.borrow_mut());
        }
    }

    /// Notes that a caller was refused: at its link when it has one.
    pub(super) fn note_refused<T>(
        &self,
        hello: &Hello,
        refusal: Refusal,
    ) -> Result<Option<T>, Failed> {
        let failed = Failed::Refused(refusal.text);
        let link = self.links.borrow().get(&hello.from).cloned();
        match link.filter(|link| !link.is_connected()) {
            None => Err(failed),
            Some(link) => {
                self.note_trouble(&link, failed);
                Ok(None)
            }
        }
    }
}
