//! Why a shard's machine could not start. Each message names the cause and the cure.

use std::io;
use std::path::PathBuf;

/// Why the reactor, or the data directory beneath it, could not be taken into use.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// The kernel forbids io_uring to this process.
    #[error(
        "io_uring is forbidden here: {}",
        match sysctl {
            Some(value) => format!("sysctl kernel.io_uring_disabled is {value}; set it to 0 (sysctl -w kernel.io_uring_disabled=0)"),
            None => "a seccomp filter blocks it (in a container: allow io_uring_setup, io_uring_enter and io_uring_register, or run with --security-opt seccomp=unconfined)".to_owned(),
        }
    )]
    RingForbidden {
        /// The value of `kernel.io_uring_disabled`, when that is the cause.
        sysctl: Option<String>,
    },
    /// The kernel lacks something that Ashlar needs.
    #[error("Linux {release} is too old: {what}; 6.1 or newer is needed")]
    KernelTooOld {
        /// Release as `uname -r` prints it.
        release: String,
        /// What it lacks.
        what: String,
    },
    /// Memory for the ring could not be locked.
    #[error(
        "not enough locked memory for io_uring: raise the limit (ulimit -l unlimited, or LimitMEMLOCK=infinity in the systemd unit)"
    )]
    Memlock,
    /// The configuration wants something that this machine does not have.
    #[error("{knob} = {value} is not possible here: {cause} ({error}); {cure}, or set {knob} = 0")]
    Refused {
        /// Key of the configuration.
        knob: &'static str,
        /// Its value.
        value: u32,
        /// What stands in the way.
        cause: &'static str,
        /// What the kernel said.
        error: io::Error,
        /// What to do about it.
        cure: &'static str,
    },
    /// Another call of ring set-up failed.
    #[error("{call} failed: {error}")]
    Ring {
        /// The call.
        call: &'static str,
        /// What the kernel said.
        error: io::Error,
    },
    /// The file system does not take direct IO.
    #[error("{} does not support direct IO (O_DIRECT): put the data directory on ext4, XFS or another file system on a disk, not on tmpfs or overlayfs", .path.display())]
    NoDirectIo {
        /// The file that could not be opened so.
        path: PathBuf,
    },
    /// Another process has the data directory.
    #[error("data directory {} is in use by another process (its lock file {} is held); stop that process or give another --data", .path.display(), .lock.display())]
    DirectoryInUse {
        /// The data directory.
        path: PathBuf,
        /// Its lock file.
        lock: PathBuf,
    },
    /// A file operation failed.
    #[error("cannot {what} {}: {error}{}", .path.display(), file_cure(.error))]
    File {
        /// What was tried: "create", "open" ...
        what: &'static str,
        /// On which file.
        path: PathBuf,
        /// What the operating system said.
        error: io::Error,
    },
}

/// Says what to do about a file that is refused; nothing where the operating system says it all.
fn file_cure(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::PermissionDenied => {
            "; give the node's user the right to it (chown), or give another --data"
        }
        io::ErrorKind::ReadOnlyFilesystem => {
            "; mount the file system for writing, or give another --data"
        }
        io::ErrorKind::NotADirectory => "; give a directory with --data",
        io::ErrorKind::NotFound => "; is the directory above it there?",
        io::ErrorKind::StorageFull => "; make room on the disk",
        _ => "",
    }
}

/// Says what to do about an address that cannot be listened on, and was given with `flag`.
#[must_use]
pub fn address_cure(error: &io::Error, flag: &str) -> String {
    match error.kind() {
        io::ErrorKind::AddrInUse => format!("stop what listens there, or give another {flag}"),
        io::ErrorKind::AddrNotAvailable => {
            format!("it is no address of this machine; give one of those with {flag}")
        }
        io::ErrorKind::PermissionDenied => {
            format!("a port below 1024 needs CAP_NET_BIND_SERVICE; give another {flag}")
        }
        _ => format!("give another {flag}"),
    }
}
