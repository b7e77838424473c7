//! Values as a whole, and what is told of their changes, for commands that read one, make another of it and set that:
//! on the shard of the key, in one call, so that nothing comes between. What is proposed is the outcome: replicas are
//! told the new value, not how it was made.
//!
//! Invariant: what could not be read, because it is not in memory or no string, is as if it were missing; all that the
//! command does then is taken back, and it is run anew or refused.

use ashlar_partition::{Condition, Expiry, Put, Refusal, Request, Response, Return};

use super::{DataCall, respond};
use crate::pubsub::notice::Class;

/// What a key holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Held {
    /// The value.
    pub value: Vec<u8>,
    /// When it expires, in milliseconds since 1970.
    pub expire_at_ms: Option<u64>,
}

impl Held {
    /// Returns the expiry that a copy is to have.
    #[must_use]
    pub fn expiry(&self) -> Expiry {
        self.expire_at_ms.map_or(Expiry::Never, Expiry::At)
    }
}

impl DataCall<'_> {
    /// Tells of an event, `event`, of a key in the database of the connection: once what the command did is
    /// durable, and if anybody wants to know.
    pub fn notify(&mut self, class: Class, event: &'static str, key: &[u8]) {
        self.notices.add(class, event, (self.database, key));
    }

    /// Counts the read of a key, and tells of one that is missing.
    pub fn note_read(&mut self, key: &[u8], found: bool) {
        self.count_read(found);
        // Of a command that is a read, it was told.
        if !found && !self.is_read {
            self.notify(Class::Miss, "keymiss", key);
        }
    }

    /// Tells that a key was set, and its expiry.
    pub fn tell_set(&mut self, key: &[u8], expiry: Expiry) {
        self.notify(Class::Text, "set", key);
        if matches!(expiry, Expiry::At(_)) {
            self.notify(Class::Generic, "expire", key);
        }
    }

    /// Asks a partition for a change and answers it; says whether it was made.
    pub fn change(&mut self, user_key: &[u8], request: &Request<'_>) -> bool {
        self.ask(user_key, request, |response, encoder| {
            let done = matches!(response, Response::Done | Response::Integer(1..));
            respond(response, encoder);
            done
        })
    }

    /// Runs something in another database.
    pub fn within<A>(&mut self, database: u8, run: impl FnOnce(&mut Self) -> A) -> A {
        let own = std::mem::replace(&mut self.database, database);
        let answer = run(self);
        self.database = own;
        answer
    }

    /// Sets a key to what another one held, whatever it was: the elements of a collection are then swept up.
    ///
    /// # Errors
    /// [`Refusal`]: nothing was done.
    pub fn overwrite(&mut self, key: &[u8], held: &Held) -> Result<(), Refusal> {
        self.remove(key)?;
        self.store(key, &held.value, held.expiry())
    }

    /// Returns what a key holds; nothing when it is missing.
    pub fn held(&mut self, key: &[u8]) -> Option<Held> {
        self.ask(key, &Request::Get, |response, _| match response {
            Response::Value(value, expire_at_ms) => Ok(Some(Held {
                value: value.into_owned(),
                expire_at_ms,
            })),
            Response::Refused(refusal) => Err(refusal),
            _ => Ok(None),
        })
        .unwrap_or_else(|refusal| {
            self.fail(refusal);
            None
        })
    }

    /// Returns the value of a key; nothing when it is missing.
    pub fn look(&mut self, key: &[u8]) -> Option<Vec<u8>> {
        self.held(key).map(|held| held.value)
    }

    /// Returns the value of the key at `place`, and counts the read.
    pub fn read_value(&mut self, place: usize) -> Option<Vec<u8>> {
        let value = self.look(self.word(place));
        self.note_read(self.word(place), value.is_some());
        value
    }

    /// Sets a key, whatever it is.
    ///
    /// # Errors
    /// [`Refusal`]: nothing was done.
    pub fn store(&mut self, key: &[u8], value: &[u8], expiry: Expiry) -> Result<(), Refusal> {
        let request = Request::Put(Put {
            value,
            condition: Condition::Always,
            expiry,
            returns: Return::Outcome,
        });
        self.ask(key, &request, |response, _| match response {
            Response::Refused(refusal) => Err(refusal),
            _ => Ok(()),
        })
    }

    /// Deletes a key that a command has left nothing of, and tells of it if it was there.
    ///
    /// # Errors
    /// As [`DataCall::remove`].
    pub fn remove_whole(&mut self, key: &[u8]) -> Result<(), Refusal> {
        if self.remove(key)? {
            self.notify(Class::Generic, "del", key);
        }
        Ok(())
    }

    /// Deletes a key; says whether it was there.
    ///
    /// # Errors
    /// [`Refusal`]: nothing was done.
    pub fn remove(&mut self, key: &[u8]) -> Result<bool, Refusal> {
        self.ask(key, &Request::Delete, |response, _| match response {
            Response::Refused(refusal) => Err(refusal),
            Response::Integer(deleted) => Ok(deleted > 0),
            _ => Ok(false),
        })
    }
}

/// Returns the event of a change of a key's expiry. A moment that has passed deletes the key.
#[must_use]
pub fn event_of(request: &Request<'_>, now_ms: u64) -> &'static str {
    match request {
        Request::Expire { at_ms, .. } if *at_ms <= now_ms => "del",
        Request::Expire { .. } => "expire",
        _ => "persist",
    }
}
