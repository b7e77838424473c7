//! The seam between what runs everywhere and what lies beneath: the kernel's ring, or the simulated
//! world. An enum and not a type parameter, so that nothing above it is generic; the branch is
//! always predicted.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use crate::clock::Known;
use crate::op::{Completion, Handle, Op, OpId};
use crate::queue::WakeTarget;
use crate::time::{Monotonic, Wall};
use crate::{sim, uring};

/// What a reactor stands on.
#[derive(Debug)]
pub(crate) enum Driver {
    Uring(Box<uring::Driver>),
    Sim(sim::Driver),
}

impl Driver {
    pub(crate) fn submit(&mut self, id: OpId, op: &mut Op) {
        match self {
            Self::Uring(driver) => driver.submit(id, op),
            Self::Sim(driver) => driver.submit(id, op),
        }
    }

    pub(crate) fn cancel(&mut self, id: OpId) {
        match self {
            Self::Uring(driver) => driver.cancel(id),
            Self::Sim(driver) => driver.cancel(id),
        }
    }

    pub(crate) fn reap(&mut self, out: &mut Vec<Completion>) {
        match self {
            Self::Uring(driver) => driver.reap(out),
            Self::Sim(driver) => driver.reap(out),
        }
    }

    pub(crate) fn now(&self) -> Monotonic {
        match self {
            Self::Uring(driver) => driver.now(),
            Self::Sim(driver) => driver.now(),
        }
    }

    pub(crate) fn wall(&self) -> Wall {
        match self {
            Self::Uring(driver) => driver.wall(),
            Self::Sim(driver) => driver.wall(),
        }
    }

    pub(crate) fn known_time(&self) -> Option<Known> {
        match self {
            Self::Uring(driver) => driver.known_time(),
            Self::Sim(driver) => driver.known_time(),
        }
    }

    pub(crate) fn cpu_time(&self) -> (Duration, Duration) {
        match self {
            Self::Uring(_) => crate::sys::thread_cpu_time(),
            Self::Sim(_) => (Duration::ZERO, Duration::ZERO),
        }
    }

    pub(crate) fn resident_bytes(&self) -> u64 {
        match self {
            Self::Uring(_) => crate::topology::resident_bytes(),
            Self::Sim(_) => 0,
        }
    }

    pub(crate) fn random(&mut self) -> u64 {
        match self {
            Self::Uring(_) => {
                let mut bytes = [0; 8];
                crate::sys::random_bytes(&mut bytes)
                    .expect("the kernel gives randomness after boot");
                u64::from_le_bytes(bytes)
            }
            Self::Sim(driver) => driver.random(),
        }
    }

    pub(crate) fn listen(&mut self, addr: SocketAddr) -> io::Result<Handle> {
        match self {
            Self::Uring(driver) => driver.listen(addr),
            Self::Sim(driver) => driver.listen(addr),
        }
    }

    pub(crate) fn local_addr(&self, handle: Handle) -> io::Result<SocketAddr> {
        match self {
            Self::Uring(driver) => driver.local_addr(handle),
            Self::Sim(driver) => driver.local_addr(handle),
        }
    }

    pub(crate) fn peer_addr(&self, handle: Handle) -> io::Result<SocketAddr> {
        match self {
            Self::Uring(driver) => driver.peer_addr(handle),
            Self::Sim(driver) => driver.peer_addr(handle),
        }
    }

    pub(crate) fn wake_target(&self) -> WakeTarget {
        match self {
            Self::Uring(driver) => driver.wake_target(),
            Self::Sim(driver) => WakeTarget::Sim(driver.wake_cell()),
        }
    }

    /// Counts a durable write or sync that completed.
    pub(crate) fn durable_done(&mut self) {
        if let Self::Uring(driver) = self {
            driver.durable_done();
        }
    }

    /// Waits until nothing is in flight, for `patience` at most; says whether it is so.
    pub(crate) fn drain(&mut self, patience: Duration) -> bool {
        match self {
            Self::Uring(driver) => driver.drain(patience),
            Self::Sim(_) => true,
        }
    }
}
