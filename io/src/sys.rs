//! The few calls to the operating system that the standard library lacks, each wrapped once.

use std::ffi::CStr;
use std::fs::File;
use std::io::{self, Write};
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::time::Duration;

use crate::clock::kernel::KernelClock;
use crate::op::Space;

/// An event file descriptor: a write from any thread completes the read that a ring has on it.
#[derive(Debug)]
pub(crate) struct EventFd(File);

impl EventFd {
    pub(crate) fn new() -> io::Result<Self> {
        // SAFETY: eventfd takes no pointers.
        let fd = unsafe { libc::eventfd(0, libc::EFD_CLOEXEC) };
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: fd is a fresh descriptor that nobody else owns.
        let owned = unsafe { OwnedFd::from_raw_fd(fd) };
        Ok(Self(File::from(owned)))
    }

    /// Adds one to the counter. It cannot block before 2^64 - 1 signals, and an error has no cure
    /// here.
    pub(crate) fn signal(&self) {
        let _ = (&self.0).write(&1_u64.to_le_bytes());
    }

    pub(crate) fn fd(&self) -> RawFd {
        self.0.as_raw_fd()
    }
}

/// Gives the rest of this thread's time slice away.
pub(crate) fn yield_cpu() {
    std::thread::yield_now();
}

/// Fills `bytes` with randomness of the kernel.
///
/// # Errors
/// The kernel has none to give, which does not happen after boot.
pub(crate) fn random_bytes(bytes: &mut [u8]) -> io::Result<()> {
    // SAFETY: the pointer and length describe `bytes`, which is writable for the whole call.
    let n = unsafe { libc::getrandom(bytes.as_mut_ptr().cast(), bytes.len(), 0) };
    if usize::try_from(n).is_ok_and(|n| n == bytes.len()) {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

/// A clock of the system.
#[derive(Clone, Copy, Debug)]
pub(crate) enum SystemClock {
    /// The wall clock.
    Real,
    /// Counts as the hardware does: nobody slews it, and it stands still while the machine is suspended.
    Raw,
    /// The same, slewed.
    Monotonic,
    /// The same, as of the last tick of the kernel.
    Coarse,
    /// The same, slewed, and with the time for which the machine was suspended.
    Boot,
}

/// Returns what a clock shows, in nanoseconds.
pub(crate) fn clock(clock: SystemClock) -> u64 {
    let id = match clock {
        SystemClock::Real => libc::CLOCK_REALTIME,
        SystemClock::Raw => libc::CLOCK_MONOTONIC_RAW,
        SystemClock::Coarse => libc::CLOCK_MONOTONIC_COARSE,
        SystemClock::Monotonic => libc::CLOCK_MONOTONIC,
        SystemClock::Boot => libc::CLOCK_BOOTTIME,
    };
    read_clock(id).expect("these clocks are in every kernel that has rings")
}

fn read_clock(id: libc::clockid_t) -> io::Result<u64> {
    let mut shown = libc::timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    // SAFETY: the pointer is to a live timespec.
    if unsafe { libc::clock_gettime(id, &raw mut shown) } != 0 {
        return Err(io::Error::last_os_error());
    }
    let seconds = u64::try_from(shown.tv_sec).unwrap_or(0);
    let nanos = u64::try_from(shown.tv_nsec).unwrap_or(0);
    Ok(seconds.saturating_mul(1_000_000_000).saturating_add(nanos))
}

/// What the clock of a network device shows, and the wall clock beside it, in nanoseconds.
#[derive(Clone, Copy, Debug)]
pub(crate) struct PhcReading {
    pub(crate) device: u64,
    pub(crate) wall: u64,
    /// How long the reading took: the device was read somewhere within.
    pub(crate) window_ns: u64,
}

/// Reads the clock behind an open device. The kernel gives every such descriptor a clock of its own.
pub(crate) fn read_phc(device: &File) -> io::Result<PhcReading> {
    // Source: FD_TO_CLOCKID in the kernel's documentation of PTP.
    let id: libc::clockid_t = (!device.as_raw_fd() << 3) | 3;
    let before = clock(SystemClock::Raw);
    let shown = read_clock(id)?;
    let wall = clock(SystemClock::Real);
    Ok(PhcReading {
        device: shown,
        wall,
        window_ns: clock(SystemClock::Raw).saturating_sub(before),
    })
}

/// Returns what the kernel says of its clock; changes nothing.
pub(crate) fn kernel_clock() -> io::Result<KernelClock> {
    let mut timex = MaybeUninit::<libc::timex>::zeroed();
    // SAFETY: the pointer is to a whole timex, whose zero `modes` changes nothing.
    let state = unsafe { libc::adjtimex(timex.as_mut_ptr()) };
    if state < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: all-zero bytes are a valid timex, and the kernel wrote one over them.
    let timex = unsafe { timex.assume_init() };
    Ok(KernelClock {
        state,
        status: timex.status,
        max_error_us: timex.maxerror,
        offset: timex.offset,
        now_s: u64::try_from(timex.time.tv_sec).unwrap_or(0),
        tai_s: timex.tai,
    })
}

/// Puts this thread to sleep.
pub(crate) fn pause(time: Duration) {
    std::thread::sleep(time);
}

/// Returns how long this thread has run, in user space and in the kernel.
pub(crate) fn thread_cpu_time() -> (Duration, Duration) {
    let mut usage = MaybeUninit::<libc::rusage>::zeroed();
    // SAFETY: the pointer is to a whole rusage, which is writable for the call.
    let failed = unsafe { libc::getrusage(libc::RUSAGE_THREAD, usage.as_mut_ptr()) } != 0;
    debug_assert!(!failed, "both arguments are sound");
    // SAFETY: all-zero bytes are a valid rusage, and the kernel wrote one over them.
    let usage = unsafe { usage.assume_init() };
    let duration = |time: libc::timeval| {
        let seconds = u64::try_from(time.tv_sec).unwrap_or(0);
        Duration::from_secs(seconds)
            + Duration::from_micros(u64::try_from(time.tv_usec).unwrap_or(0))
    };
    (duration(usage.ru_utime), duration(usage.ru_stime))
}

/// Returns the space of the file system that a path lies in.
///
/// # Errors
/// What the operating system said.
pub(crate) fn space(path: &CStr) -> io::Result<Space> {
    let mut found = MaybeUninit::<libc::statvfs>::zeroed();
    // SAFETY: both pointers are good for the whole call: the path ends with a zero byte, and a whole
    // statvfs may be written.
    if unsafe { libc::statvfs(path.as_ptr(), found.as_mut_ptr()) } != 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: all-zero bytes are a valid statvfs, and the kernel wrote one over them.
    let found = unsafe { found.assume_init() };
    let unit = found.f_frsize;
    Ok(Space {
        free_bytes: found.f_bavail.saturating_mul(unit),
        total_bytes: found.f_blocks.saturating_mul(unit),
    })
}

/// Returns the kernel's release, as `uname -r` prints it.
#[must_use]
pub fn kernel_release() -> String {
    std::fs::read_to_string("/proc/sys/kernel/osrelease")
        .unwrap_or_default()
        .trim()
        .to_owned()
}

/// Takes an exclusive lock on an open file; `Ok(false)` when another process holds it.
pub(crate) fn try_lock(file: &File) -> io::Result<bool> {
    // SAFETY: flock takes a descriptor, which `file` keeps open for the call, and no pointers.
    let result = unsafe { libc::flock(file.as_raw_fd(), libc::LOCK_EX | libc::LOCK_NB) };
    if result == 0 {
        return Ok(true);
    }
    let error = io::Error::last_os_error();
    if error.kind() == io::ErrorKind::WouldBlock {
        Ok(false)
    } else {
        Err(error)
    }
}

/// Signals that ask the process to stop.
#[derive(Debug)]
pub struct StopSignals(libc::sigset_t);

impl StopSignals {
    /// Blocks SIGINT and SIGTERM for this thread and those it starts, so that [`StopSignals::wait`]
    /// can take them. Call it before any other thread exists.
    #[must_use]
    pub fn block() -> Self {
        let mut set = MaybeUninit::<libc::sigset_t>::uninit();
        // SAFETY: sigemptyset initialises the set it is given.
        unsafe { libc::sigemptyset(set.as_mut_ptr()) };
        // SAFETY: initialised by the call above.
        let mut set = unsafe { set.assume_init() };
        for signal in [libc::SIGINT, libc::SIGTERM] {
            // SAFETY: the set is initialised and the signal numbers are valid.
            unsafe { libc::sigaddset(&raw mut set, signal) };
        }
        // SAFETY: the set is initialised; a null old set is allowed.
        unsafe { libc::pthread_sigmask(libc::SIG_BLOCK, &raw const set, std::ptr::null_mut()) };
        Self(set)
    }

    /// Waits until one of the signals arrives; returns its name.
    #[must_use]
    pub fn wait(&self) -> &'static str {
        let mut signal = 0;
        loop {
            // SAFETY: both pointers are to live values of the right type.
            let result = unsafe { libc::sigwait(&raw const self.0, &raw mut signal) };
            match (result, signal) {
                (0, libc::SIGINT) => return "SIGINT",
                (0, libc::SIGTERM) => return "SIGTERM",
                _ => {}
            }
        }
    }
}

/// Asks another process to stop (`SIGTERM`).
///
/// # Errors
/// There is no such process, or it is not this user's.
pub fn ask_to_stop(process_id: u32) -> io::Result<()> {
    let id = libc::pid_t::try_from(process_id).map_err(io::Error::other)?;
    // SAFETY: no memory is passed.
    match unsafe { libc::kill(id, libc::SIGTERM) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Raises the limit of open files to the most that this process may have; returns it.
#[must_use]
pub fn raise_open_files() -> u64 {
    let mut limit = libc::rlimit {
        rlim_cur: 0,
        rlim_max: 0,
    };
    // SAFETY: the pointer is to a live rlimit.
    if unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit) } != 0 {
        return 1024;
    }
    limit.rlim_cur = limit.rlim_max;
    // SAFETY: as above.
    unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit) };
    limit.rlim_cur
}
