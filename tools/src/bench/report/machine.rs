//! The machine that the load came from, as its kernel tells of it. What it does not tell is left out.

use std::fs;

/// Facts of a machine, each with its name.
pub(crate) type Facts = Vec<(&'static str, String)>;

/// Returns the facts of this machine.
pub(crate) fn facts() -> Facts {
    let read = |path: &str| {
        fs::read_to_string(path)
            .ok()
            .map(|text| text.trim().to_owned())
    };
    let cpuinfo = read("/proc/cpuinfo").unwrap_or_default();
    let cpus = ashlar_io::topology::cpus();
    let is_virtual = cpuinfo
        .lines()
        .any(|line| line.starts_with("flags") && line.contains(" hypervisor"));
    let facts = [
        ("host", read("/proc/sys/kernel/hostname")),
        ("kernel", Some(ashlar_io::kernel_release())),
        ("CPU", model(&cpuinfo)),
        ("CPUs allowed", Some(format!("{cpus:?}"))),
        (
            "virtual machine",
            Some(if is_virtual { "yes" } else { "no" }.to_owned()),
        ),
        (
            "governor",
            read("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor"),
        ),
        (
            "clock source",
            read("/sys/devices/system/clocksource/clocksource0/current_clocksource"),
        ),
        (
            "memory",
            Some(format!("{} MiB", ashlar_io::topology::memory_bytes() >> 20)),
        ),
        ("ashlar", Some(env!("CARGO_PKG_VERSION").to_owned())),
    ];
    let told = facts
        .into_iter()
        .filter_map(|(name, fact)| Some((name, fact?)));
    told.filter(|(_, fact)| !fact.is_empty()).collect()
}

fn model(cpuinfo: &str) -> Option<String> {
    let line = cpuinfo
        .lines()
        .find(|line| line.starts_with("model name"))?;
    line.split_once(':')
        .map(|(_, model)| model.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_machine_has_a_kernel_and_a_model() {
        let facts = facts();
        assert!(facts.iter().any(|(name, _)| *name == "kernel"));
        assert!(facts.iter().all(|(_, fact)| !fact.is_empty()));
        assert_eq!(
            model("processor\t: 0\nmodel name\t: A CPU\n").as_deref(),
            Some("A CPU")
        );
        assert_eq!(model(""), None);
    }
}
