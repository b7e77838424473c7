//! A gate that lets a fixed number in at once; the others wait in line, those whom a client waits
//! for before those that work in the background.
//!
//! Invariants:
//! 1. Permits given plus permits free are the number that the gate was made with.
//! 2. While somebody waits, no permit is free: a permit that comes back goes to the first in line.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::future::poll_fn;
use std::rc::Rc;
use std::task::{Poll, Waker};

/// Who is let in first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Urgency {
    /// A client waits.
    Foreground,
    /// Nobody waits in person.
    Background,
}

/// A gate.
#[derive(Debug)]
pub(super) struct Gate {
    free: Cell<u32>,
    lines: [RefCell<VecDeque<Rc<Place>>>; 2],
}

/// A place in line.
#[derive(Debug, Default)]
struct Place {
    turn: Cell<Turn>,
    waker: RefCell<Option<Waker>>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Turn {
    #[default]
    Waiting,
    Come,
    Left,
}

/// The right to be inside. Dropping it lets the next one in.
#[derive(Debug)]
pub(super) struct Permit(Rc<Gate>);

impl Gate {
    /// Makes a gate that lets `permits` in at once.
    pub(super) fn new(permits: u32) -> Rc<Self> {
        assert!(permits > 0, "a gate lets somebody in");
        Rc::new(Self {
            free: Cell::new(permits),
            lines: Default::default(),
        })
    }

    /// Waits to be let in.
    pub(super) async fn enter(self: &Rc<Self>, urgency: Urgency) -> Permit {
        if self.free.get() > 0 {
            self.free.set(self.free.get() - 1);
            return Permit(Rc::clone(self));
        }
        let waiting = Waiting {
            gate: self,
            place: Rc::default(),
        };
        self.lines[urgency as usize]
            .borrow_mut()
            .push_back(Rc::clone(&waiting.place));
        poll_fn(|context| {
            if waiting.place.turn.get() == Turn::Come {
                return Poll::Ready(());
            }
            *waiting.place.waker.borrow_mut() = Some(context.waker().clone());
            Poll::Pending
        })
        .await;
        waiting.place.turn.set(Turn::Left);
        Permit(Rc::clone(self))
    }

    /// Gives a permit to the first in line, or keeps it.
    fn leave(&self) {
        for line in &self.lines {
            loop {
                let Some(place) = line.borrow_mut().pop_front() else {
                    break;
                };
                if place.turn.get() == Turn::Waiting {
                    place.turn.set(Turn::Come);
                    let waker = place.waker.borrow_mut().take();
                    waker.into_iter().for_each(Waker::wake);
                    return;
                }
            }
        }
        self.free.set(self.free.get() + 1);
    }

    #[cfg(test)]
    pub(super) fn free(&self) -> u32 {
        self.free.get()
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.0.leave();
    }
}

/// Leaves the line when the wait is dropped, passing on a permit that had just come.
struct Waiting<'a> {
    gate: &'a Rc<Gate>,
    place: Rc<Place>,
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        if self.place.turn.replace(Turn::Left) == Turn::Come {
            self.gate.leave();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::pin::pin;
    use std::task::Context;

    use super::*;

    fn poll<F: Future>(future: std::pin::Pin<&mut F>) -> Option<F::Output> {
        match future.poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(value) => Some(value),
            Poll::Pending => None,
        }
    }

    #[test]
    fn foreground_goes_before_background_and_each_in_order() {
        let gate = Gate::new(1);
        let permit = poll(pin!(gate.enter(Urgency::Background))).unwrap();
        let mut slow = pin!(gate.enter(Urgency::Background));
        let mut first = pin!(gate.enter(Urgency::Foreground));
        let mut second = pin!(gate.enter(Urgency::Foreground));
        assert!(poll(slow.as_mut()).is_none() && poll(first.as_mut()).is_none());
        assert!(poll(second.as_mut()).is_none());
        drop(permit);
        assert!(poll(slow.as_mut()).is_none() && poll(second.as_mut()).is_none());
        drop(poll(first.as_mut()).unwrap());
        assert!(poll(slow.as_mut()).is_none());
        drop(poll(second.as_mut()).unwrap());
        drop(poll(slow.as_mut()).unwrap());
        assert_eq!(gate.free(), 1);
    }

    #[test]
    fn who_leaves_the_line_takes_no_permit_along() {
        let gate = Gate::new(1);
        let permit = poll(pin!(gate.enter(Urgency::Foreground))).unwrap();
        let mut left = Box::pin(gate.enter(Urgency::Foreground));
        let mut called = Box::pin(gate.enter(Urgency::Foreground));
        let mut last = pin!(gate.enter(Urgency::Foreground));
        assert!(poll(left.as_mut()).is_none() && poll(called.as_mut()).is_none());
        assert!(poll(last.as_mut()).is_none());
        drop(left);
        drop(permit);
        drop(called);
        drop(poll(last.as_mut()).expect("the permit was passed on"));
        assert_eq!(gate.free(), 1);
    }
}
