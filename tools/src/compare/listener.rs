//! What a subscriber to everything hears of an episode: messages of its commands, and what they did to keys. Both
//! servers have to tell the same, in the same order.

use std::net::SocketAddr;

use super::server::Connection;
use super::words::Command;

/// Channel of the message that ends what belongs to some commands.
const END: &[u8] = b"compare-redis:end";
/// What both servers publish of keys. That a key has expired is told when it is found, which is when that is.
const EVENTS: &[u8] = b"KEg$";

/// The subscribers of one server.
#[derive(Debug)]
struct Ear {
    hears: Connection,
    says: Connection,
}

/// The subscribers of both servers.
#[derive(Debug)]
pub(crate) struct Listener {
    ours: Ear,
    theirs: Ear,
}

impl Ear {
    fn open(addr: SocketAddr) -> Result<Self, String> {
        let mut ear = Self {
            hears: Connection::open(addr)?,
            says: Connection::open(addr)?,
        };
        let set: Command = words(&[b"CONFIG", b"SET", b"notify-keyspace-events", EVENTS]);
        ear.says.send([&set].into_iter())?;
        ear.says.receive()?;
        let subscriptions = [words(&[b"PSUBSCRIBE", b"*"]), words(&[b"SSUBSCRIBE", b"a"])];
        ear.hears.send(subscriptions.iter())?;
        ear.hears.receive()?;
        ear.hears.receive()?;
        Ok(ear)
    }

    /// Returns what was heard since the last time.
    fn heard(&mut self) -> Result<Vec<Vec<u8>>, String> {
        self.says
            .send([&words(&[b"PUBLISH", END, b""])].into_iter())?;
        self.says.receive()?;
        let mut heard = Vec::new();
        loop {
            let message = self.hears.receive()?.ok_or("a subscriber was closed")?;
            if message.windows(END.len()).any(|part| part == END) {
                return Ok(heard);
            }
            heard.push(message);
        }
    }
}

fn words(words: &[&[u8]]) -> Command {
    words.iter().map(|word| word.to_vec()).collect()
}

impl Listener {
    /// Subscribes to everything on both servers.
    pub(crate) fn open(ours: SocketAddr, theirs: SocketAddr) -> Result<Self, String> {
        Ok(Self {
            ours: Ear::open(ours)?,
            theirs: Ear::open(theirs)?,
        })
    }

    /// Returns the first message that is not the same in both since the last time, ours and theirs.
    pub(crate) fn difference(&mut self) -> Result<Option<[Vec<u8>; 2]>, String> {
        let (ours, theirs) = (self.ours.heard()?, self.theirs.heard()?);
        let nothing = || b"nothing more is heard".to_vec();
        let both = ours.len().max(theirs.len());
        let found = (0..both).find(|at| ours.get(*at) != theirs.get(*at));
        Ok(found.map(|at| {
            let at = |of: &[Vec<u8>]| of.get(at).cloned().unwrap_or_else(nothing);
            [at(&ours), at(&theirs)]
        }))
    }
}
