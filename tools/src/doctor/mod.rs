//! `ashlar doctor`: looks at the machine that a node runs on, says what is as it should be and what is not, and how to
//! cure it. It changes nothing unless it is told to (`--fix`), and puts that back (`--revert`). It does not ask a
//! running node; `ashlar status` does.

mod fix;
#[cfg(test)]
mod fixture;
mod kernel;
mod machine;
mod parse;
pub(crate) mod probe;
mod report;
mod storage;

use std::path::{Path, PathBuf};

use ashlar_node::config::{Config, Cpus};

use crate::node::StartArgs;
use crate::refusal::Failure;
use machine::Machine;
use report::{Finding, Verdict};
use storage::Place;

/// Flags of `ashlar doctor`.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Args {
    /// Data directory, there or to be made [default: that of the configuration]
    #[arg(long, value_name = "DIR")]
    data: Option<String>,
    /// Configuration file (TOML) of the node
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Print an array of JSON objects instead of a table
    #[arg(long)]
    json: bool,
    /// Change the settings of the kernel that can be changed at once, until the next boot
    #[arg(long)]
    fix: bool,
    /// Put back what --fix has changed, and look at nothing
    #[arg(long, conflicts_with_all = ["fix", "json"])]
    revert: bool,
    /// Where --fix keeps what was set before
    #[arg(
        long,
        value_name = "FILE",
        default_value = "/var/lib/ashlar/doctor-before.toml"
    )]
    before: PathBuf,
    /// Measure the disk beneath a directory instead, for about twenty seconds, and keep the result beside that file
    #[arg(long, value_name = "DIR", conflicts_with_all = ["fix", "revert", "json", "data", "config"])]
    probe: Option<PathBuf>,
}

/// Looks, and prints what was found.
///
/// # Errors
/// One line: what was found keeps a node from running, or could not be looked at, changed or put back.
pub(crate) fn run(args: Args) -> Result<(), Failure> {
    let machine = Machine::at(Path::new("/"));
    if args.revert {
        let lines = fix::revert(&machine, &args.before)?;
        lines.iter().for_each(|line| println!("{line}"));
        return Ok(());
    }
    if let Some(dir) = &args.probe {
        return measure(&machine, dir, &args.before);
    }
    let config = StartArgs::of(args.data, args.config).load()?;
    let mut findings = examine(&machine, &config)?;
    if args.fix {
        let lines = fix::apply(&machine, &findings, &args.before)?;
        // Standard output may be what a program reads.
        lines.iter().for_each(|line| eprintln!("{line}"));
        findings = examine(&machine, &config)?;
    }
    let text = match args.json {
        true => report::json(&findings),
        false => report::table(&findings),
    };
    print!("{text}");
    match findings
        .iter()
        .filter(|f| f.verdict == Verdict::Fail)
        .count()
    {
        0 => Ok(()),
        fails => Err(format!("{fails} of {} checks failed", findings.len()).into()),
    }
}

/// Measures a device, prints what it does, and keeps that.
fn measure(machine: &Machine, dir: &Path, before: &Path) -> Result<(), Failure> {
    if !dir.is_dir() {
        let dir = dir.display();
        return Err(Failure::Mistake(format!(
            "--probe {dir}: there is no such directory; allowed is one on the disk that is to be measured"
        )));
    }
    let place = Place::find(machine, dir)?;
    let measured = probe::measure(machine, &place, probe::Plan::whole())?;
    print!("{}", measured.table());
    match measured.keep(before.parent().unwrap_or(Path::new("."))) {
        Ok(path) => println!("kept in {}", path.display()),
        // It was measured all the same.
        Err(line) => eprintln!("warning: {line}"),
    }
    Ok(())
}

/// Returns what the device beneath a directory does: what was kept of it, or else what is measured now, in a few
/// seconds, and kept.
///
/// # Errors
/// One line: it cannot be measured.
pub(crate) fn device(dir: &Path) -> Result<probe::Measured, String> {
    let machine = Machine::at(Path::new("/"));
    let place = Place::find(&machine, dir)?;
    let places = kept_places();
    let kept = places
        .iter()
        .find_map(|kept| probe::kept(kept, &machine, &place));
    if let Some(measured) = kept {
        return Ok(measured);
    }
    let measured = probe::measure(&machine, &place, probe::Plan::short())?;
    // Where nothing can be kept it is measured again the next time.
    let _ = places.iter().find_map(|place| measured.keep(place).ok());
    Ok(measured)
}

/// Says what is doubtful about the file system that a node's data are on, and the cure; nothing of one that is as it
/// should be, or is not known.
pub(crate) fn doubt(data: &Path) -> Option<String> {
    let place = Place::find(&Machine::at(Path::new("/")), data).ok()?;
    place.mount.as_ref()?;
    let finding = storage::file_system(&place);
    let cure = finding.cure?;
    Some(format!("the data are on {}; {cure}", finding.found))
}

/// Returns the directories in which results may be kept: that of whoever this is, and that of the node.
fn kept_places() -> Vec<PathBuf> {
    let home = std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".cache/ashlar"));
    [home, Some(PathBuf::from("/var/lib/ashlar"))]
        .into_iter()
        .flatten()
        .collect()
}

/// Makes every check.
fn examine(machine: &Machine, config: &Config) -> Result<Vec<Finding>, String> {
    let place = Place::find(machine, &config.data)?;
    let cpus = shard_cpus(config);
    let shards = cpus.len() as u64;
    let (ring, reactor) = kernel::ring(machine, config);
    let reactor = reactor.as_ref();
    let mut findings = vec![
        kernel::release(machine),
        kernel::uring_switch(machine),
        ring,
        kernel::locked_memory(machine, config, shards),
        kernel::open_files(machine, config),
        kernel::huge_pages(machine),
        kernel::swap(machine),
        kernel::clock_source(machine),
        kernel::clock_synchronised(machine),
        kernel::clock_bound(config),
        storage::file_system(&place),
        storage::direct_io(reactor, &place),
        storage::space(reactor, &place, config, shards),
    ];
    for disk in &place.disks {
        findings.extend([
            storage::block_size(machine, disk),
            storage::write_cache(machine, disk),
            storage::scheduler(machine, disk),
            storage::interrupts(machine, disk, &cpus),
        ]);
    }
    if place.disks.is_empty() {
        let finding = Finding::ok(
            "disk",
            "a disk of this machine",
            "none beneath the file system",
        );
        findings.push(finding.but(Verdict::Warn, "give a --data on a local disk"));
    }
    Ok(findings)
}

/// Returns the CPUs that shards are pinned to.
fn shard_cpus(config: &Config) -> Vec<u32> {
    match &config.cpus {
        Cpus::List(cpus) => cpus.clone(),
        Cpus::All => {
            let cpus = ashlar_io::topology::cpus();
            cpus.into_iter()
                .filter_map(|cpu| u32::try_from(cpu).ok())
                .collect()
        }
    }
}
