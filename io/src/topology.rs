//! The CPUs that shards are pinned to, and memory: what there is, and what this process takes of it.

/// Returns the CPUs that this process may run on, in order.
#[must_use]
pub fn cpus() -> Vec<usize> {
    let mut ids: Vec<usize> = core_affinity::get_core_ids()
        .unwrap_or_default()
        .iter()
        .map(|core| core.id)
        .collect();
    ids.sort_unstable();
    if ids.is_empty() { vec![0] } else { ids }
}

/// Pins the calling thread to a CPU; says whether the kernel agreed.
#[must_use]
pub fn pin(cpu: usize) -> bool {
    core_affinity::set_for_current(core_affinity::CoreId { id: cpu })
}

/// Returns the line of a file of facts that begins with `name`, a number of KiB, in bytes.
fn kib_line(path: &str, name: &str) -> Option<u64> {
    let text = std::fs::read_to_string(path).ok()?;
    let line = text.lines().find(|line| line.starts_with(name))?;
    let kib: u64 = line.split_whitespace().nth(1)?.parse().ok()?;
    Some(kib * 1024)
}

/// Returns the memory that this process takes of the machine now, in bytes.
#[must_use]
pub fn resident_bytes() -> u64 {
    kib_line("/proc/self/status", "VmRSS:").unwrap_or(0)
}

/// Returns the machine's memory, in bytes.
#[must_use]
pub fn machine_bytes() -> u64 {
    kib_line("/proc/meminfo", "MemTotal:").unwrap_or(1 << 30)
}

/// Returns the memory that this process may use, in bytes: the machine's, or less if a control
/// group says so.
#[must_use]
pub fn memory_bytes() -> u64 {
    let groups = [
        "/sys/fs/cgroup/memory.max",
        "/sys/fs/cgroup/memory/memory.limit_in_bytes",
    ];
    let group = groups.iter().find_map(|path| {
        std::fs::read_to_string(path)
            .ok()?
            .trim()
            .parse::<u64>()
            .ok()
    });
    let machine = machine_bytes();
    group.map_or(machine, |group| group.min(machine))
}
