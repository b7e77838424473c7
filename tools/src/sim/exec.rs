//! Transactions of a simulated client: keys that it watches, commands that it queues, and what may come of them. All of
//! it happens or nothing; and nothing, if a watched key was written meanwhile.

use std::cell::Cell;
use std::rc::Rc;

use super::ask::Asked;
use super::client::Crowd;
use super::judge::{judge, refuse, unknown};
use super::model::Model;
use super::wire::Reply;

/// A transaction on its way.
#[derive(Debug)]
pub(super) struct Exec {
    /// What was queued.
    pub(super) parts: Vec<Asked>,
    /// How many of those commands were done that make it fail: the watch, and the write of the watched key.
    pub(super) spoilt: Rc<Cell<u32>>,
}

/// Commands after which a transaction must not run.
pub(super) const SPOILT: u32 = 2;

impl Exec {
    /// Takes in what the transaction was answered.
    pub(super) fn judge(self, crowd: &Crowd, reply: Reply) {
        let replies = match reply {
            Reply::Array(replies) => replies,
            Reply::Bulk(None) => {
                crowd
                    .model
                    .borrow_mut()
                    .mark("transactions that did nothing");
                return self.refuse(&mut crowd.model.borrow_mut());
            }
            other => {
                let what = Err(format!("unexpected reply {other:?}"));
                return crowd.model.borrow_mut().check("EXEC", what);
            }
        };
        let mut wrong = None;
        if self.spoilt.get() == SPOILT {
            wrong = Some("it ran though a watched key was written".to_owned());
        } else if replies.len() != self.parts.len() {
            wrong = Some(format!("{} replies to {}", replies.len(), self.parts.len()));
        }
        crowd.model.borrow_mut().mark("transactions");
        crowd
            .model
            .borrow_mut()
            .check("EXEC", wrong.map_or(Ok(()), Err));
        for (part, reply) in self.parts.into_iter().zip(replies) {
            judge(crowd, part, reply);
        }
    }

    /// Nothing was done.
    pub(super) fn refuse(self, model: &mut Model) {
        self.parts.into_iter().for_each(|part| refuse(model, part));
    }

    /// Nobody knows whether it was done.
    pub(super) fn lose(self, model: &mut Model) {
        self.parts.into_iter().for_each(|part| unknown(model, part));
    }
}
