//! What is asked of the kernel and of the limits that the node is started with: release, rings, limits, memory, clock.
//! Each check is a function of the machine's texts; only [`ring`] tries something.

use ashlar_io::{BLOCK_BYTES, Reactor, Settings, StartError};
use ashlar_node::config::{CommitWait, Config};

use super::machine::Machine;
use super::parse;
use super::report::{Finding, Verdict};

/// Clock sources that are read without a system call.
const FAST_CLOCKS: [&str; 5] = [
    "tsc",
    "kvm-clock",
    "hyperv_clocksource_tsc_page",
    "arch_sys_counter",
    "riscv_clocksource",
];
/// Programs that keep the clock.
const CLOCK_KEEPERS: [&str; 6] = [
    "chronyd",
    "ntpd",
    "ntpd-rs",
    "ntp-daemon",
    "ptp4l",
    "phc2sys",
];
/// Bit of the right to lock memory without limit (`CAP_IPC_LOCK`).
const CAN_LOCK: u64 = 1 << 14;
/// Bytes of a ring for each of its submission entries, with the four completions of each: 132, and room for more.
const ENTRY_BYTES: u64 = 256;
/// Descriptors of a node that are not clients: what it warns of when it starts.
const FILES_BESIDE_CLIENTS: u64 = 64;
/// Descriptors without which it does not come to serve.
const FILES_MIN: u64 = 256;
/// Above this, swapping begins before memory is short.
const SWAPPINESS_MAX: u64 = 10;

/// Setting of how eagerly the kernel swaps.
pub(crate) const SWAPPINESS: &str = "/proc/sys/vm/swappiness";
/// Setting of which memory gets huge pages.
pub(crate) const HUGE_PAGES: &str = "/sys/kernel/mm/transparent_hugepage/enabled";
/// Setting of the clock that time is read from.
pub(crate) const CLOCK: &str = "/sys/devices/system/clocksource/clocksource0/current_clocksource";

/// Linux 6.1 or newer.
pub(crate) fn release(machine: &Machine) -> Finding {
    let found = machine.read("/proc/sys/kernel/osrelease");
    let found = found.unwrap_or_else(|| "not known".to_owned());
    let finding = Finding::ok("kernel", "Linux 6.1 or newer", found.clone());
    match parse::release(&found) {
        Some(release) if release >= (6, 1) => finding,
        Some(_) => finding.but(Verdict::Fail, "install a newer kernel and boot it"),
        None => finding.but(Verdict::Warn, "look at `uname -r`"),
    }
}

/// The administrator's switch for io_uring. It is never written by `--fix`: who forbade it had a reason.
pub(crate) fn uring_switch(machine: &Machine) -> Finding {
    let value = machine.read("/proc/sys/kernel/io_uring_disabled");
    let wanted = "kernel.io_uring_disabled = 0";
    let finding = Finding::ok(
        "io_uring switch",
        wanted,
        value.as_deref().unwrap_or("no such switch"),
    );
    match value.as_deref() {
        None | Some("0") => finding,
        Some("1") => finding.but(
            Verdict::Warn,
            "sysctl -w kernel.io_uring_disabled=0, or give the node's group to kernel.io_uring_group",
        ),
        Some(_) => finding.but(Verdict::Fail, "sysctl -w kernel.io_uring_disabled=0"),
    }
}

/// A ring as a shard makes it: flags, features and operations. Gives it back for what comes after.
pub(crate) fn ring(machine: &Machine, config: &Config) -> (Finding, Option<Reactor>) {
    let settings = Settings {
        queue_entries: config.io.queue_entries,
        registered_blocks: 0,
        ..Settings::default()
    };
    let made = Reactor::new(&settings);
    let seccomp = machine.read("/proc/self/status");
    let seccomp = seccomp
        .as_deref()
        .and_then(|text| parse::status(text, "Seccomp"));
    let filtered = match seccomp {
        None | Some("0") => "",
        Some(_) => ", through the seccomp filter of this process",
    };
    let wanted = "io_uring with every flag and operation of a shard";
    match made {
        Ok(reactor) => (
            Finding::ok("io_uring", wanted, format!("a ring was made{filtered}")),
            Some(reactor),
        ),
        Err(error) => {
            let finding = Finding::ok("io_uring", wanted, error.to_string());
            (finding.but(Verdict::Fail, ring_cure(&error)), None)
        }
    }
}

fn ring_cure(error: &StartError) -> &'static str {
    match error {
        StartError::RingForbidden { sysctl: Some(_) } => "sysctl -w kernel.io_uring_disabled=0",
        StartError::RingForbidden { sysctl: None } => {
            "start the container with --security-opt seccomp=FILE of a profile that allows io_uring_setup, \
             io_uring_enter and io_uring_register"
        }
        StartError::KernelTooOld { .. } => "install a newer kernel and boot it",
        StartError::Memlock => "ulimit -l unlimited, or LimitMEMLOCK=infinity in the systemd unit",
        _ => "look at dmesg",
    }
}

/// Memory that may be locked: blocks of the log that the kernel maps once, and the rings, which newer kernels count.
pub(crate) fn locked_memory(machine: &Machine, config: &Config, shards: u64) -> Finding {
    let blocks_bytes = u64::from(config.io.registered_blocks) * BLOCK_BYTES as u64;
    let ring_bytes = u64::from(config.io.queue_entries) * ENTRY_BYTES;
    let wanted_bytes = shards * (blocks_bytes + ring_bytes);
    let wanted = format!(
        "{} KiB for {shards} shards with io.registered_blocks = {} and io.queue_entries = {}",
        wanted_bytes >> 10,
        config.io.registered_blocks,
        config.io.queue_entries
    );
    if may_lock_all(machine) {
        return Finding::ok("locked memory", &wanted, "no limit (CAP_IPC_LOCK)");
    }
    let limits = machine.read("/proc/self/limits");
    let limit = limits.and_then(|text| parse::limit(&text, "Max locked memory"));
    match limit {
        None => Finding::ok("locked memory", &wanted, "not known")
            .but(Verdict::Warn, "look at `ulimit -l`"),
        Some((u64::MAX, _)) => Finding::ok("locked memory", &wanted, "no limit"),
        Some((soft, _)) => {
            let finding = Finding::ok("locked memory", &wanted, format!("{} KiB", soft >> 10));
            match soft >= wanted_bytes {
                true => finding,
                false => finding.but(
                    Verdict::Warn,
                    "ulimit -l unlimited, or LimitMEMLOCK=infinity in the systemd unit",
                ),
            }
        }
    }
}

fn may_lock_all(machine: &Machine) -> bool {
    let status = machine.read("/proc/self/status");
    let rights = status
        .as_deref()
        .and_then(|text| parse::status(text, "CapEff"));
    let rights = rights.and_then(|hex| u64::from_str_radix(hex, 16).ok());
    rights.is_some_and(|rights| rights & CAN_LOCK != 0)
}

/// Open files: a node raises its limit to the hard one.
pub(crate) fn open_files(machine: &Machine, config: &Config) -> Finding {
    let clients_max = u64::from(config.client.clients_max);
    let wanted = format!("client.clients_max = {clients_max}, and {FILES_BESIDE_CLIENTS} more");
    let limits = machine.read("/proc/self/limits");
    let Some((_, hard)) = limits.and_then(|text| parse::limit(&text, "Max open files")) else {
        return Finding::ok("open files", &wanted, "not known")
            .but(Verdict::Warn, "look at `ulimit -Hn`");
    };
    let found = match hard {
        u64::MAX => "no limit".to_owned(),
        hard => format!("{hard} (hard limit)"),
    };
    let finding = Finding::ok("open files", &wanted, found);
    let cure = format!(
        "ulimit -Hn {0}, or LimitNOFILE={0} in the systemd unit",
        clients_max + FILES_BESIDE_CLIENTS
    );
    match hard {
        hard if hard < FILES_MIN => finding.but(Verdict::Fail, cure),
        hard if hard < clients_max + FILES_BESIDE_CLIENTS => finding.but(Verdict::Warn, cure),
        _ => finding,
    }
}

/// Huge pages where a program asks for them: given to all memory, they are made while a shard waits.
pub(crate) fn huge_pages(machine: &Machine) -> Finding {
    let wanted = "madvise or never";
    match machine.chosen(HUGE_PAGES).as_deref() {
        None => Finding::ok("huge pages", wanted, "no such setting"),
        Some("always") => {
            Finding::ok("huge pages", wanted, "always").fixed_by(HUGE_PAGES, "madvise")
        }
        Some(other) => Finding::ok("huge pages", wanted, other),
    }
}

/// No swap, or little use of it: a shard that waits for a page of its own memory serves nobody.
pub(crate) fn swap(machine: &Machine) -> Finding {
    let wanted = format!("no swap, or vm.swappiness at most {SWAPPINESS_MAX}");
    let areas = machine.read("/proc/swaps");
    let (count, kib) = areas.as_deref().map_or((0, 0), parse::swaps);
    if count == 0 {
        return Finding::ok("swap", &wanted, "no swap");
    }
    let mib = kib >> 10;
    match machine.number(SWAPPINESS) {
        Some(value) if value > SWAPPINESS_MAX => {
            let found = format!("{mib} MiB of swap, vm.swappiness = {value}");
            Finding::ok("swap", &wanted, found).fixed_by(SWAPPINESS, "1")
        }
        Some(value) => Finding::ok(
            "swap",
            &wanted,
            format!("{mib} MiB of swap, vm.swappiness = {value}"),
        ),
        None => Finding::ok("swap", &wanted, format!("{mib} MiB of swap"))
            .but(Verdict::Warn, "swapoff -a"),
    }
}

/// A clock that is read without a system call: a shard reads it every turn.
pub(crate) fn clock_source(machine: &Machine) -> Finding {
    let wanted = "a clock that is read without a system call, such as tsc";
    let Some(current) = machine.read(CLOCK) else {
        return Finding::ok("clock source", wanted, "not known");
    };
    let finding = Finding::ok("clock source", wanted, current.clone());
    if FAST_CLOCKS.contains(&current.as_str()) {
        return finding;
    }
    let available =
        machine.read("/sys/devices/system/clocksource/clocksource0/available_clocksource");
    let available = available.unwrap_or_default();
    let better = FAST_CLOCKS
        .iter()
        .find(|clock| available.split_whitespace().any(|word| word == **clock));
    match better {
        Some(better) => finding.fixed_by(CLOCK, better),
        None => finding.but(
            Verdict::Warn,
            "the kernel offers no better one: look for \"tsc\" in dmesg, and at the settings of the hypervisor",
        ),
    }
}

/// A bound of the clock's error, for what waits for it.
pub(crate) fn clock_bound(config: &Config) -> Finding {
    let wanted = "a bound of the clock's error that is believed, if clock.wait is on or strict";
    match ashlar_io::clock::ask_once(config.clock.options()) {
        Ok((source, error_us)) => {
            let found = format!("{} says at most {error_us} us", source.word());
            Finding::ok("clock bound", wanted, found)
        }
        Err(why) => {
            let finding = Finding::ok("clock bound", wanted, why.to_string());
            match config.clock.wait {
                CommitWait::Off => finding,
                CommitWait::On => finding.but(
                    Verdict::Warn,
                    "writes are acknowledged without a wait; give clock.source one that is believed, or clock.error_bound_ms",
                ),
                CommitWait::Strict => finding.but(
                    Verdict::Fail,
                    "every write is refused; give clock.source one that is believed, or clock.error_bound_ms",
                ),
            }
        }
    }
}

/// Something that keeps the clock right: expiry and timestamps follow it, and so do the members of a cluster.
pub(crate) fn clock_synchronised(machine: &Machine) -> Finding {
    let wanted = "a synchronised clock";
    let systemd = machine.path("/run/systemd/timesync/synchronized").exists();
    if systemd {
        let found = "systemd-timesyncd says synchronised; error bound not known";
        return Finding::ok("clock", wanted, found);
    }
    match machine.runs(&CLOCK_KEEPERS) {
        Some("chronyd") => {
            let found = "chronyd runs; the error bound is known to `chronyc tracking`";
            Finding::ok("clock", wanted, found)
        }
        Some(name) => Finding::ok(
            "clock",
            wanted,
            format!("{name} runs; error bound not known"),
        ),
        None => Finding::ok(
            "clock",
            wanted,
            "not known: nothing that keeps the clock runs here",
        )
        .but(
            Verdict::Warn,
            "install chrony (apt install chrony), unless the host keeps this clock",
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::super::fixture::Fixture;
    use super::*;

    #[test]
    fn old_kernels_fail() {
        let fixture = Fixture::new(&[("/proc/sys/kernel/osrelease", "5.10.0-30-amd64\n")]);
        assert_eq!(release(&fixture.machine).verdict, Verdict::Fail);
        fixture.put("/proc/sys/kernel/osrelease", "6.1.0-9-amd64\n");
        assert_eq!(release(&fixture.machine).verdict, Verdict::Ok);
        fixture.put("/proc/sys/kernel/osrelease", "strange");
        assert_eq!(release(&fixture.machine).verdict, Verdict::Warn);
    }

    #[test]
    fn the_switch_of_io_uring_is_told_and_never_written() {
        let fixture = Fixture::new(&[]);
        let switch = "/proc/sys/kernel/io_uring_disabled";
        assert_eq!(uring_switch(&fixture.machine).verdict, Verdict::Ok);
        for (value, verdict) in [
            ("0", Verdict::Ok),
            ("1", Verdict::Warn),
            ("2", Verdict::Fail),
        ] {
            fixture.put(switch, value);
            let finding = uring_switch(&fixture.machine);
            assert_eq!((finding.verdict, finding.writes.len()), (verdict, 0));
        }
    }

    #[test]
    fn limits_are_held_against_the_configuration() {
        let limits = |files: &str, locked: &str| {
            format!(
                "Limit   Soft Limit   Hard Limit   Units\n\
                 Max open files            1024                 {files}               files\n\
                 Max locked memory         {locked}              {locked}              bytes\n"
            )
        };
        let config = Config::defaults();
        let fixture = Fixture::new(&[("/proc/self/status", "CapEff:\t0000000000000000\n")]);
        for (files, locked, verdicts) in [
            ("524288", "unlimited", (Verdict::Ok, Verdict::Ok)),
            ("4096", "65536", (Verdict::Warn, Verdict::Warn)),
            ("100", "4718592", (Verdict::Fail, Verdict::Ok)),
            ("10063", "4718591", (Verdict::Warn, Verdict::Warn)),
        ] {
            fixture.put("/proc/self/limits", &limits(files, locked));
            let found = (
                open_files(&fixture.machine, &config).verdict,
                locked_memory(&fixture.machine, &config, 2).verdict,
            );
            assert_eq!(found, verdicts, "{files} {locked}");
        }
        fixture.put("/proc/self/status", "CapEff:\t0000000000004000\n");
        let finding = locked_memory(&fixture.machine, &config, 2);
        assert_eq!(finding.verdict, Verdict::Ok, "{finding:?}");
    }

    #[test]
    fn memory_settings_are_cured_by_a_write() {
        let fixture = Fixture::new(&[
            (HUGE_PAGES, "[always] madvise never\n"),
            (SWAPPINESS, "60\n"),
            (
                "/proc/swaps",
                "Filename Type Size Used Priority\n/swap file 2048 0 -2\n",
            ),
        ]);
        let written = |finding: Finding| {
            finding
                .writes
                .into_iter()
                .map(|w| (w.path, w.value))
                .collect::<Vec<_>>()
        };
        assert_eq!(
            written(huge_pages(&fixture.machine)),
            [(HUGE_PAGES.to_owned(), "madvise".to_owned())]
        );
        assert_eq!(
            written(swap(&fixture.machine)),
            [(SWAPPINESS.to_owned(), "1".to_owned())]
        );
        fixture.put(HUGE_PAGES, "always [madvise] never\n");
        fixture.put(SWAPPINESS, "1\n");
        assert_eq!(huge_pages(&fixture.machine).verdict, Verdict::Ok);
        assert_eq!(swap(&fixture.machine).verdict, Verdict::Ok);
    }

    #[test]
    fn a_slow_clock_is_replaced_when_there_is_a_faster_one() {
        let fixture = Fixture::new(&[(CLOCK, "hpet\n")]);
        assert_eq!(clock_source(&fixture.machine).writes, []);
        assert_eq!(clock_source(&fixture.machine).verdict, Verdict::Warn);
        let available = "/sys/devices/system/clocksource/clocksource0/available_clocksource";
        fixture.put(available, "hpet acpi_pm tsc \n");
        assert_eq!(clock_source(&fixture.machine).writes[0].value, "tsc");
        fixture.put(CLOCK, "kvm-clock\n");
        assert_eq!(clock_source(&fixture.machine).verdict, Verdict::Ok);
    }

    #[test]
    fn what_keeps_the_clock_is_named() {
        let fixture = Fixture::new(&[("/proc/77/comm", "sh\n")]);
        let finding = clock_synchronised(&fixture.machine);
        assert!(finding.verdict == Verdict::Warn && finding.found.starts_with("not known"));
        fixture.put("/proc/78/comm", "chronyd\n");
        assert_eq!(clock_synchronised(&fixture.machine).verdict, Verdict::Ok);
    }
}
