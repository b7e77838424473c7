//! Setting a ring up: flags with their fallbacks, what must be there, and what to tell the user
//! when it is not.

use std::io;

use io_uring::{IoUring, opcode, register::Probe};

use crate::StartError;
use crate::buffer::Arena;
use crate::reactor::Settings;

/// Opcodes that the driver uses; all of them are in Linux 6.1.
const OPCODES: [(&str, u8); 14] = [
    ("openat", opcode::OpenAt::CODE),
    ("close", opcode::Close::CODE),
    ("read", opcode::Read::CODE),
    ("read_fixed", opcode::ReadFixed::CODE),
    ("write", opcode::Write::CODE),
    ("write_fixed", opcode::WriteFixed::CODE),
    ("fsync", opcode::Fsync::CODE),
    ("fallocate", opcode::Fallocate::CODE),
    ("renameat", opcode::RenameAt::CODE),
    ("unlinkat", opcode::UnlinkAt::CODE),
    ("accept", opcode::Accept::CODE),
    ("connect", opcode::Connect::CODE),
    ("recv", opcode::Recv::CODE),
    ("send", opcode::Send::CODE),
];

/// Makes the ring with the best flags that this kernel takes.
pub(super) fn ring(settings: &Settings) -> Result<IoUring, StartError> {
    // NO_SQARRAY came with 6.6; without it the ring is the same, one indirection slower.
    let ring = match build(settings, SqArray::Without) {
        Err(error) if error.raw_os_error() == Some(libc::EINVAL) => build(settings, SqArray::With),
        other => other,
    };
    let ring = ring.map_err(setup_error)?;
    let params = ring.params();
    if !(params.is_feature_nodrop() && params.is_feature_ext_arg()) {
        return Err(too_old("its io_uring lacks NODROP or EXT_ARG"));
    }
    let mut probe = Probe::new();
    ring.submitter()
        .register_probe(&mut probe)
        .map_err(|error| StartError::Ring {
            call: "probe",
            error,
        })?;
    match OPCODES.iter().find(|(_, code)| !probe.is_supported(*code)) {
        Some((name, _)) => Err(too_old(&format!("its io_uring lacks {name}"))),
        None => Ok(ring),
    }
}

enum SqArray {
    With,
    Without,
}

fn build(settings: &Settings, array: SqArray) -> io::Result<IoUring> {
    let mut builder = IoUring::builder();
    builder
        .setup_single_issuer()
        .setup_defer_taskrun()
        .setup_taskrun_flag()
        .setup_submit_all()
        .setup_clamp()
        .setup_cqsize(settings.queue_entries * 4)
        .dontfork();
    if matches!(array, SqArray::Without) {
        builder.setup_no_sqarray();
    }
    builder.build(settings.queue_entries)
}

fn setup_error(error: io::Error) -> StartError {
    match error.raw_os_error() {
        Some(libc::EPERM) => StartError::RingForbidden {
            sysctl: disabled_sysctl(),
        },
        Some(libc::ENOSYS) => StartError::RingForbidden { sysctl: None },
        Some(libc::EINVAL) => too_old("it refuses SINGLE_ISSUER | DEFER_TASKRUN"),
        Some(libc::ENOMEM) => StartError::Memlock,
        _ => StartError::Ring {
            call: "io_uring_setup",
            error,
        },
    }
}

fn too_old(what: &str) -> StartError {
    StartError::KernelTooOld {
        release: crate::sys::kernel_release(),
        what: what.to_owned(),
    }
}

/// Returns `kernel.io_uring_disabled` when it is what forbids rings.
fn disabled_sysctl() -> Option<String> {
    let text = std::fs::read_to_string("/proc/sys/kernel/io_uring_disabled").ok()?;
    let value = text.trim();
    if value == "0" {
        None
    } else {
        Some(value.to_owned())
    }
}

/// Tells the kernel the arena's blocks, so that it need not map them for every write. Without it
/// all works, slower.
pub(super) fn register_arena(ring: &IoUring, arena: &Arena) {
    let blocks: Vec<libc::iovec> = arena
        .blocks()
        .map(|(start, bytes)| libc::iovec {
            iov_base: start.cast(),
            iov_len: bytes,
        })
        .collect();
    if blocks.is_empty() {
        return;
    }
    // SAFETY: the blocks lie in the arena's memory, which the reactor keeps until the ring is
    // closed and drained.
    match unsafe { ring.submitter().register_buffers(&blocks) } {
        Ok(()) => arena.mark_registered(),
        Err(error) => tracing::warn!(
            "cannot register {} KiB of IO buffers ({error}); going on without. \
             Raise the locked-memory limit (ulimit -l, systemd LimitMEMLOCK=) to get them",
            blocks.len() * crate::buffer::BLOCK_BYTES / 1024
        ),
    }
}
