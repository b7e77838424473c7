//! What is asked of the file system and the disk beneath a data directory. Each check is a function of the machine's
//! texts; only [`direct_io`] and [`space`] ask the file system itself.

use std::io;
use std::path::{Path, PathBuf};

use ashlar_io::{ALIGN_BYTES, Durable, File, OpenOptions, Reactor, file};
use ashlar_node::config::Config;

use super::machine::Machine;
use super::parse::{self, Interrupt, Mount};
use super::report::{Finding, Verdict};

/// Where a data directory is, or would be made.
#[derive(Clone, Debug)]
pub(crate) struct Place {
    /// The nearest directory that is there, absolute and without links.
    pub(crate) dir: PathBuf,
    /// The mount that holds it.
    pub(crate) mount: Option<Mount>,
    /// The whole disks beneath.
    pub(crate) disks: Vec<String>,
}

impl Place {
    /// Finds it.
    ///
    /// # Errors
    /// One line: the path, or what is above it, is no directory, or cannot be looked at.
    pub(crate) fn find(machine: &Machine, data: &Path) -> Result<Self, String> {
        let failed =
            |error: io::Error| format!("cannot look at --data {}: {error}", data.display());
        let data = std::path::absolute(data).map_err(failed)?;
        let mut there = data.as_path();
        while !there.try_exists().map_err(failed)? {
            there = there.parent().unwrap_or(Path::new("/"));
        }
        if !there.is_dir() {
            return Err(format!(
                "--data {}: {} is no directory",
                data.display(),
                there.display()
            ));
        }
        let dir = there.canonicalize().map_err(failed)?;
        let mount = machine.mount_of(&dir);
        let disks = mount
            .as_ref()
            .map_or(Vec::new(), |mount| machine.disks(mount));
        Ok(Self { dir, mount, disks })
    }
}

/// A file system that keeps what it says.
pub(crate) fn file_system(place: &Place) -> Finding {
    let wanted = "ext4 or xfs on a local disk";
    let Some(mount) = &place.mount else {
        return Finding::ok("file system", wanted, "not known")
            .but(Verdict::Warn, "look at `df -T`");
    };
    let kind = mount.kind.as_str();
    let found = format!("{kind} at {}", mount.point);
    let warn =
        |found: String, cure| Finding::ok("file system", wanted, found).but(Verdict::Warn, cure);
    match kind {
        "ext4" | "xfs" => Finding::ok("file system", wanted, found),
        "tmpfs" | "ramfs" => warn(
            format!("{found}: memory, lost with the machine"),
            "give a --data on a disk",
        ),
        "overlay" => warn(
            format!("{found}: a container's layer, lost with the container"),
            "mount a volume and give it to --data",
        ),
        "btrfs" | "zfs" | "bcachefs" | "f2fs" => warn(
            format!("{found}: writes each block to a new place, which a log does not gain from"),
            "give a --data on ext4 or xfs",
        ),
        kind if is_network(kind) => warn(
            format!(
                "{found}: on the network or through another process, whose promise of durability counts"
            ),
            "give a --data on a local disk",
        ),
        _ => warn(
            format!("{found}: nobody tried it"),
            "give a --data on ext4 or xfs",
        ),
    }
}

fn is_network(kind: &str) -> bool {
    let network = [
        "nfs", "cifs", "smb", "9p", "ceph", "gluster", "lustre", "fuse", "virtiofs", "afs",
    ];
    network.iter().any(|prefix| kind.starts_with(prefix))
}

/// Direct IO in steps of 4 KiB, tried with a file that has no name any more.
pub(crate) fn direct_io(reactor: Option<&Reactor>, place: &Place) -> Finding {
    let wanted = "direct IO (O_DIRECT) in steps of 4 KiB";
    let Some(reactor) = reactor else {
        return Finding::ok("direct IO", wanted, "not tried without io_uring")
            .but(Verdict::Fail, "cure io_uring first");
    };
    let (inner, dir) = (reactor.clone(), place.dir.clone());
    match reactor.block_on(async move { write_directly(&inner, &dir).await }) {
        Ok(()) => Finding::ok(
            "direct IO",
            wanted,
            format!("tried in {}", place.dir.display()),
        ),
        Err(error) => {
            let found = format!("{}: {error}", place.dir.display());
            let cure = match error.kind() {
                io::ErrorKind::InvalidInput => "put the data directory on ext4 or xfs, on a disk",
                io::ErrorKind::PermissionDenied => {
                    "run this as the user of the node, or give it the directory (chown)"
                }
                io::ErrorKind::ReadOnlyFilesystem => "mount the file system for writing",
                io::ErrorKind::StorageFull => "make room on the disk",
                _ => "look at dmesg",
            };
            Finding::ok("direct IO", wanted, found).but(Verdict::Fail, cure)
        }
    }
}

/// Writes and reads the second block of a file.
async fn write_directly(reactor: &Reactor, dir: &Path) -> io::Result<()> {
    let path = dir.join(format!(".ashlar-doctor-{:016x}", reactor.random()));
    let options = OpenOptions {
        write: true,
        create_new: true,
        create: true,
        direct: true,
    };
    let opened = File::open(reactor, &path, options).await;
    // Refused as direct, the file may have been made all the same.
    let removed = file::unlink(reactor, &path).await;
    let tried = opened?;
    removed?;
    let mut buf = reactor.buffer(ALIGN_BYTES);
    buf.set_len(ALIGN_BYTES);
    buf.as_mut_slice().fill(0xa5);
    let (written, buf) = tried.write_at(buf, ALIGN_BYTES as u64, Durable::Yes).await;
    written?;
    let (read, buf) = tried.read_at(buf, ALIGN_BYTES as u64).await;
    match read? == ALIGN_BYTES && buf.as_slice().iter().all(|byte| *byte == 0xa5) {
        true => Ok(()),
        false => Err(io::Error::other("what was written is not what is read")),
    }
}

/// Free space: above the watermarks, and for the log.
pub(crate) fn space(
    reactor: Option<&Reactor>,
    place: &Place,
    config: &Config,
    shards: u64,
) -> Finding {
    let log_bytes = shards * (u64::from(config.wal.segments_spare) + 1) * config.wal.segment_bytes;
    let wanted = format!(
        "disk.low_percent = {} of the disk, and {} MiB for the log of {shards} shards",
        config.disk.low_percent,
        log_bytes >> 20
    );
    let space = reactor.map(|reactor| {
        let (inner, dir) = (reactor.clone(), place.dir.clone());
        reactor.block_on(async move { file::space(&inner, &dir).await })
    });
    let Some(Ok(space)) = space else {
        return Finding::ok("free space", &wanted, "not known").but(Verdict::Warn, "look at `df`");
    };
    let percent = space.free_bytes.saturating_mul(100) / space.total_bytes.max(1);
    let found = format!("{} MiB, {percent} %", space.free_bytes >> 20);
    let finding = Finding::ok("free space", &wanted, found);
    let cure = "make room, or give a --data on a larger disk";
    if percent < u64::from(config.disk.stop_percent) || space.free_bytes < log_bytes {
        finding.but(Verdict::Fail, cure)
    } else if percent < u64::from(config.disk.low_percent) {
        finding.but(Verdict::Warn, cure)
    } else {
        finding
    }
}

/// Blocks of a disk that a write of 4 KiB fills as a whole.
pub(crate) fn block_size(machine: &Machine, disk: &str) -> Finding {
    let wanted = "blocks of at most 4096 bytes";
    let bytes = |name: &str| machine.number(&format!("/sys/block/{disk}/queue/{name}"));
    let (Some(logical), Some(physical)) =
        (bytes("logical_block_size"), bytes("physical_block_size"))
    else {
        return Finding::ok("block size", wanted, format!("{disk}: not known"));
    };
    let found = format!("{disk}: {logical} bytes, {physical} inside");
    let finding = Finding::ok("block size", wanted, found);
    let align = ALIGN_BYTES as u64;
    if logical > align {
        finding.but(
            Verdict::Fail,
            "format the disk with smaller blocks (nvme format --lbaf=N)",
        )
    } else if physical > align {
        finding.but(
            Verdict::Warn,
            "the disk reads and writes more than a log write of 4 KiB: take another disk where latency counts",
        )
    } else {
        finding
    }
}

/// Whether a disk has a cache that a power cut empties.
pub(crate) fn write_cache(machine: &Machine, disk: &str) -> Finding {
    let wanted = "no volatile cache, so that a write is durable when it is done";
    let queue = format!("/sys/block/{disk}/queue");
    let fua = machine.read(&format!("{queue}/fua"));
    match machine.read(&format!("{queue}/write_cache")).as_deref() {
        Some("write back") => {
            let way = match fua.as_deref() {
                Some("1") => "each durable write passes it (FUA)",
                _ => "each durable write empties it (flush)",
            };
            let found = format!("{disk}: write back: {way}; safe, but slower");
            Finding::ok("write cache", wanted, found).but(
                Verdict::Warn,
                "take a disk with power-loss protection; never write \"write through\" to queue/write_cache of another",
            )
        }
        Some("write through") => {
            let word = match is_virtual(disk) {
                true => " (as the hypervisor says; it must keep that)",
                false => "",
            };
            Finding::ok(
                "write cache",
                wanted,
                format!("{disk}: write through{word}"),
            )
        }
        _ => Finding::ok("write cache", wanted, format!("{disk}: not known")),
    }
}

/// Returns the setting of a disk's scheduler.
fn scheduler_path(disk: &str) -> String {
    format!("/sys/block/{disk}/queue/scheduler")
}

/// Tells a disk that a hypervisor makes: what it says of itself is what the host was told to say.
fn is_virtual(disk: &str) -> bool {
    disk.starts_with("vd") || disk.starts_with("xvd")
}

/// No scheduler between a shard and a disk that has no arm to move.
pub(crate) fn scheduler(machine: &Machine, disk: &str) -> Finding {
    let wanted = "none, on a disk that does not rotate";
    let path = scheduler_path(disk);
    let Some(chosen) = machine.chosen(&path) else {
        return Finding::ok("scheduler", wanted, format!("{disk}: no such setting"));
    };
    // Virtual disks call themselves rotating unless the host says otherwise.
    let rotates = machine.number(&format!("/sys/block/{disk}/queue/rotational")) == Some(1);
    if rotates && !is_virtual(disk) {
        let found = format!("{disk}: {chosen}, rotating");
        let cure = "take a disk that does not rotate";
        return Finding::ok("scheduler", wanted, found).but(Verdict::Warn, cure);
    }
    let finding = Finding::ok("scheduler", wanted, format!("{disk}: {chosen}"));
    match chosen.as_str() {
        "none" => finding,
        _ => finding.fixed_by(&path, "none"),
    }
}

/// Interrupts of a disk come on the CPUs of shards.
pub(crate) fn interrupts(machine: &Machine, disk: &str, shard_cpus: &[u32]) -> Finding {
    let wanted = format!("on CPUs of shards, {shard_cpus:?}");
    let name = machine.interrupt_name(disk);
    let lines = machine.read("/proc/interrupts").unwrap_or_default();
    let queues: Vec<(Interrupt, Vec<u32>)> = parse::interrupts(&lines)
        .into_iter()
        .filter(|interrupt| {
            name.as_ref()
                .is_some_and(|name| is_queue(&interrupt.name, name))
        })
        .filter_map(|interrupt| {
            Some((
                interrupt.clone(),
                interrupt_cpus(machine, interrupt.number)?,
            ))
        })
        .collect();
    if queues.is_empty() {
        return Finding::ok("interrupts", &wanted, format!("{disk}: not known"));
    }
    let mut cpus: Vec<u32> = queues.iter().flat_map(|(_, cpus)| cpus.clone()).collect();
    cpus.sort_unstable();
    cpus.dedup();
    let found = format!("{disk}: queues {}, on CPUs {cpus:?}", queues.len());
    let finding = Finding::ok("interrupts", &wanted, found);
    // With a queue for each CPU, each shard has its own; those of other CPUs are no trouble.
    if shard_cpus.iter().all(|cpu| cpus.contains(cpu)) {
        return finding;
    }
    let elsewhere = queues
        .iter()
        .filter(|(_, cpus)| !cpus.iter().any(|cpu| shard_cpus.contains(cpu)));
    elsewhere
        .enumerate()
        .fold(finding, |finding, (index, (interrupt, _))| {
            let cpu = shard_cpus[index % shard_cpus.len()];
            let path = format!("/proc/irq/{}/smp_affinity_list", interrupt.number);
            finding.fixed_by(&path, &cpu.to_string())
        })
}

/// Tells a queue that moves data: not the first of NVMe, which is for orders, nor the one of settings.
fn is_queue(name: &str, of: &str) -> bool {
    let rest = name.strip_prefix(of);
    rest.is_some_and(|rest| !rest.is_empty() && rest != "0" && rest != "config")
}

fn interrupt_cpus(machine: &Machine, number: u32) -> Option<Vec<u32>> {
    let read = |name: &str| {
        let text = machine.read(&format!("/proc/irq/{number}/{name}"))?;
        parse::cpu_list(&text).filter(|cpus| !cpus.is_empty())
    };
    read("effective_affinity_list").or_else(|| read("smp_affinity_list"))
}

#[cfg(test)]
#[path = "storage/tests.rs"]
mod tests;
