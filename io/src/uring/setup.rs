//! Setting a ring up: flags with their fallbacks, what must be there, and what to tell the user
//! when it is not.

use std::io;

use io_uring::{IoUring, opcode, register::Probe, types};

use crate::StartError;
use crate::buffer::Arena;
use crate::reactor::Settings;

/// Opcodes that the driver uses; all of them are in Linux 6.1.
const OPCODES: [(&str, u8); 15] = [
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
    ("send_zc", opcode::SendZc::CODE),
];

/// Makes the ring with the best flags that this kernel takes.
pub(super) fn ring(settings: &Settings) -> Result<IoUring, StartError> {
    // NO_SQARRAY came with 6.6; without it the ring is the same, one indirection slower.
    let ring = match build(settings, SqArray::Without) {
        Err(error) if error.raw_os_error() == Some(libc::EINVAL) => build(settings, SqArray::With),
        other => other,
    };
    let ring = ring.map_err(|error| setup_error(settings, error))?;
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
    if settings.sqpoll_idle_ms > 0 {
        tracing::info!(
            "io.sqpoll_idle_ms = {}: a thread of the kernel takes this shard's submissions, and \
             runs its completions too (no DEFER_TASKRUN)",
            settings.sqpoll_idle_ms
        );
    }
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
        .setup_submit_all()
        .setup_clamp()
        .setup_cqsize(settings.queue_entries * 4)
        .dontfork();
    if settings.sqpoll_idle_ms > 0 {
        // The thread runs what completions defer, so the kernel refuses to leave that to us.
        builder.setup_sqpoll(settings.sqpoll_idle_ms);
    } else {
        builder.setup_defer_taskrun().setup_taskrun_flag();
    }
    if matches!(array, SqArray::Without) {
        builder.setup_no_sqarray();
    }
    builder.build(settings.queue_entries)
}

fn setup_error(settings: &Settings, error: io::Error) -> StartError {
    match error.raw_os_error() {
        Some(libc::EAGAIN | libc::EINVAL) if settings.sqpoll_idle_ms > 0 => StartError::Refused {
            knob: "io.sqpoll_idle_ms",
            value: settings.sqpoll_idle_ms,
            cause: "the kernel does not start a thread that takes submissions",
            error,
            cure: "raise the limit of threads (ulimit -u, systemd TasksMax=)",
        },
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

/// Has a shard that sleeps poll its network devices first, if the settings want that.
pub(super) fn register_napi(ring: &IoUring, settings: &Settings) -> Result<(), StartError> {
    if settings.napi_poll_us_max == 0 {
        return Ok(());
    }
    let mut napi = types::Napi::new().set_busy_poll_timeout(settings.napi_poll_us_max);
    let told = ring.submitter().register_napi(&mut napi);
    told.map_err(|error| StartError::Refused {
        knob: "io.napi_poll_us_max",
        value: settings.napi_poll_us_max,
        cause: "the kernel does not poll network devices for a ring",
        error,
        cure: "run Linux 6.9 or newer, built with CONFIG_NET_RX_BUSY_POLL",
    })
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
