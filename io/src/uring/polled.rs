//! A second ring, for reads of direct files whose completion is found by polling the device and not
//! told by an interrupt. Not for sockets, which a polled ring cannot serve, nor for writes: a
//! durable one ends with a flush, which has nothing to poll.
//!
//! While a read is in flight its shard does not sleep: each turn looks at the device once.
//!
//! Invariant: what goes wrong here goes on in the other ring; a device that cannot be polled costs
//! one refused read.

use std::io;

use io_uring::{IoUring, squeue};

use crate::StartError;
use crate::reactor::Settings;

/// The polled ring of a shard.
pub(super) struct Polled {
    ring: IoUring,
    entries: usize,
    in_flight: usize,
    /// The device, or its file system, cannot be polled.
    refused: bool,
}

impl Polled {
    /// Makes the ring, if the settings want one.
    pub(super) fn new(settings: &Settings) -> Result<Option<Self>, StartError> {
        if settings.iopoll_entries == 0 {
            return Ok(None);
        }
        let mut builder = IoUring::builder();
        builder
            .setup_iopoll()
            .setup_single_issuer()
            .setup_clamp()
            .dontfork();
        let ring = builder
            .build(settings.iopoll_entries)
            .map_err(|error| StartError::Refused {
                knob: "io.iopoll_entries",
                value: settings.iopoll_entries,
                cause: "the kernel makes no second ring that polls",
                error,
                cure: "raise the limits of locked memory and open files (ulimit -l, ulimit -n)",
            })?;
        let entries = ring.params().sq_entries() as usize;
        Ok(Some(Self {
            ring,
            entries,
            in_flight: 0,
            refused: false,
        }))
    }

    /// Says whether a read may go here; else it goes to the other ring.
    pub(super) fn has_room(&self) -> bool {
        !self.refused && self.in_flight < self.entries
    }

    /// Says whether the device has to be looked at.
    pub(super) fn is_busy(&self) -> bool {
        self.in_flight > 0
    }

    /// Queues a read.
    pub(super) fn push(&mut self, entry: &squeue::Entry) {
        self.in_flight += 1;
        // SAFETY: the entry points to a buffer that the op's slot owns until its completion.
        let pushed = unsafe { self.ring.submission().push(entry) };
        pushed.expect("no more reads are in flight than the queue has entries");
    }

    /// Submits what is queued and looks at the device once.
    pub(super) fn poll(&mut self) {
        match self.ring.submit() {
            Ok(_) => {}
            Err(error)
                if matches!(
                    error.raw_os_error(),
                    Some(libc::EBUSY | libc::EAGAIN | libc::EINTR)
                ) => {}
            Err(error) => panic!("io_uring_enter failed: {error}"),
        }
    }

    /// Takes the completions that were found.
    pub(super) fn reap(&mut self, out: &mut Vec<(u64, i32, u32)>) {
        let mut queue = self.ring.completion();
        queue.sync();
        let from = out.len();
        out.extend((&mut queue).map(|entry| (entry.user_data(), entry.result(), entry.flags())));
        drop(queue);
        self.in_flight -= out.len() - from;
        for (_, result, _) in &mut out[from..] {
            if matches!(-*result, libc::EOPNOTSUPP | libc::EINVAL) {
                self.refuse(*result);
                // The reactor starts it again, and then it goes to the other ring.
                *result = -libc::EAGAIN;
            }
        }
    }

    fn refuse(&mut self, result: i32) {
        if !std::mem::replace(&mut self.refused, true) {
            tracing::warn!(
                "io.iopoll_entries is without effect: the device of the data directory cannot be \
                 polled ({}); give its driver polled queues (nvme.poll_queues=, \
                 virtio_blk.poll_queues=), or set io.iopoll_entries = 0",
                io::Error::from_raw_os_error(-result)
            );
        }
    }
}
