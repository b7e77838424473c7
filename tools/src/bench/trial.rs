//! `ashlar bench` without any word: half a minute in which a node of its own, in a directory that is gone afterwards,
//! is measured beside what the disk beneath can do. It prints two numbers and a verdict.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use ashlar_io::topology;

use super::flags::{Flags, Told};
use super::report::Phase;
use super::report::table::{rate, time};
use super::session::Session;
use super::target::{Counters, Login, Target};
use crate::doctor;
use crate::doctor::probe::Measured;

/// How long the node may take until it listens.
const START_MAX: Duration = Duration::from_secs(20);
/// Share of what a closed loop reached at which latency is measured.
const SHARE: f64 = 0.8;
/// Keys, 100 bytes each.
const KEYS: &str = "100000";
/// Share of a CPU, or of what the disk did, from which on it is what bounds the node.
const FULL: f64 = 0.85;

/// A node of its own, and its directory.
struct Node {
    child: Child,
    dir: PathBuf,
    target: Target,
}

/// What the node's log did meanwhile, in a second.
#[derive(Clone, Copy, Debug, Default)]
struct Log {
    writes: f64,
    mib: f64,
    /// Share of its CPUs that the node used.
    node_busy: f64,
}

/// Runs the trial; says whether it came to its end.
///
/// # Errors
/// One line: the disk cannot be measured, the node does not start, or something was found to be wrong.
pub(crate) fn run(told: &Told, stop: &Arc<AtomicBool>) -> Result<bool, String> {
    let here = std::env::current_dir()
        .map_err(|error| format!("cannot use the current directory: {error}"))?;
    eprintln!(
        "half a minute: the disk beneath {}, then a node in it",
        here.display()
    );
    let device = doctor::device(&here)?;
    let (node_cpus, client_cpus) = shares(&topology::cpus());
    let node = Node::start(&here, &node_cpus)?;
    let threads = client_cpus.len().to_string();
    let cpus: Vec<String> = client_cpus.iter().map(usize::to_string).collect();
    let addr = node.target.addr.to_string();
    let common = [
        "--target",
        &addr,
        "--keys",
        KEYS,
        "--threads",
        &threads,
        "--cpu",
        &cpus.join(","),
    ];
    let node = (&node, node_cpus.len());
    let Some((writes, log)) = measure("durable writes", node, &common, (told, stop))? else {
        return Ok(false);
    };
    tell("durable writes", &writes);
    let Some((reads, _)) = measure("reads", node, &common, (told, stop))? else {
        return Ok(false);
    };
    tell("reads", &reads);
    println!("device          {}", device.name());
    println!("{}", verdict(&writes, log, &device));
    Ok(true)
}

fn tell(what: &str, phase: &Phase) {
    println!(
        "{what:<16}{:>10}  p99 {}",
        rate(phase.per_second),
        time(phase.all.response.p99_us)
    );
}

/// Divides CPUs among node and client.
fn shares(cpus: &[usize]) -> (Vec<usize>, Vec<usize>) {
    match cpus.len() {
        0 | 1 => (cpus.to_vec(), cpus.to_vec()),
        count => {
            let (client, node) = cpus.split_at(count / 2);
            (node.to_vec(), client[..client.len().min(8)].to_vec())
        }
    }
}

/// Finds what a closed loop reaches, then measures latency below it; nothing when it was ended early.
fn measure(
    what: &str,
    (node, node_cpus): (&Node, usize),
    common: &[&str],
    (told, stop): (&Told, &Arc<AtomicBool>),
) -> Result<Option<(Phase, Log)>, String> {
    eprintln!("{what}: how many there can be, then how long each takes at 80 % of that");
    let (mix, seconds) = match what {
        "reads" => ("get=1", "6"),
        _ => ("set=1", "8"),
    };
    let closed = [
        "--mix",
        mix,
        "--closed",
        "--load",
        "--seconds",
        "3",
        "-c",
        "64",
    ];
    let top = phase(&Flags::of(&[common, &closed].concat()), told, stop)?;
    let Some(top) = top else {
        return Ok(None);
    };
    let due = (top.per_second * SHARE).max(1.0).to_string();
    let open = [
        "--mix",
        mix,
        "--rate",
        &due,
        "--seconds",
        seconds,
        "-c",
        "64",
    ];
    let login = Login::default();
    let (before, from) = (node.target.counters(&login)?, Instant::now());
    let found = phase(&Flags::of(&[common, &open].concat()), told, stop)?;
    let after = node.target.counters(&login)?;
    Ok(found.map(|found| {
        (
            found,
            Log::between(&before, &after, from.elapsed(), node_cpus),
        )
    }))
}

fn phase(flags: &Flags, told: &Told, stop: &Arc<AtomicBool>) -> Result<Option<Phase>, String> {
    let told = Told {
        no_tui: told.no_tui,
        ..Told::default()
    };
    let flags = Flags {
        told,
        ..flags.clone()
    };
    let mut session = Session::new(&flags, stop)?;
    session.run()?;
    if let Some(line) = session.failure() {
        return Err(line);
    }
    let is_stopped = stop.load(Ordering::Relaxed);
    Ok(session.phases().last().filter(|_| !is_stopped).cloned())
}

/// Says what the writes come to beside what the disk was measured to do, and what bounds them.
fn verdict(writes: &Phase, log: Log, device: &Measured) -> String {
    let Some((syncs, _)) = device.durable_writes(4) else {
        return "no verdict: nothing is known of the disk".to_owned();
    };
    let Some((_, mib)) = device.durable_writes(256) else {
        return "no verdict: nothing is known of the disk".to_owned();
    };
    let share = log.writes / syncs.max(1.0);
    let busy = writes.client_busy.iter().copied().fold(0.0, f64::max);
    let bound = bound((share, log.mib / mib.max(1e-9)), (log.node_busy, busy));
    format!(
        "{:.0} % of the sync ceiling ({:.0} of {syncs:.0} log writes a second, {:.1} commands each); {bound}",
        100.0 * share,
        log.writes,
        writes.per_second / log.writes.max(1.0)
    )
}

fn bound((syncs, bytes): (f64, f64), (node, client): (f64, f64)) -> &'static str {
    match () {
        () if client > FULL => "bound by this client: the node may be faster",
        () if node > FULL => "bound by the node's CPU",
        () if syncs > FULL => "bound by how fast the disk syncs",
        () if bytes > FULL => "bound by the disk's bandwidth",
        () => "bound by the latency of a sync: 64 callers wait for theirs, more would do more",
    }
}

impl Log {
    fn between(before: &Counters, after: &Counters, time: Duration, cpus: usize) -> Self {
        let seconds = time.as_secs_f64();
        let per_second = |name| after.since(before, name).unwrap_or(0.0) / seconds;
        #[expect(clippy::cast_precision_loss, reason = "a machine has fewer CPUs")]
        let cpus = cpus as f64;
        Self {
            writes: per_second("log_batches"),
            mib: per_second("log_bytes") / f64::from(1 << 20),
            node_busy: (per_second("used_cpu_user") + per_second("used_cpu_sys")) / cpus,
        }
    }
}

impl Node {
    fn start(here: &Path, cpus: &[usize]) -> Result<Self, String> {
        let dir = here.join(format!(".ashlar-bench-{}", std::process::id()));
        let failed =
            |error: std::io::Error| format!("cannot start a node in {}: {error}", dir.display());
        std::fs::create_dir(&dir).map_err(failed)?;
        let started = Self::start_in(&dir, cpus);
        if started.is_err() {
            // It is empty, or holds what the node has left.
            let _ = std::fs::remove_dir_all(&dir);
        }
        started
    }

    fn start_in(dir: &Path, cpus: &[usize]) -> Result<Self, String> {
        let failed =
            |error: std::io::Error| format!("cannot start a node in {}: {error}", dir.display());
        let program = std::env::current_exe().map_err(failed)?;
        let cpus: Vec<String> = cpus.iter().map(usize::to_string).collect();
        let log = std::fs::File::create(dir.join("log")).map_err(failed)?;
        let mut child = Command::new(program)
            .args(["start", "--listen", "127.0.0.1:0", "--memory", "256MiB"])
            .args(["--cpus", &cpus.join(",")])
            .arg("--data")
            .arg(dir.join("data"))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(log)
            .spawn()
            .map_err(failed)?;
        let lines = BufReader::new(child.stdout.take().expect("it was piped")).lines();
        let (give, found) = mpsc::channel();
        std::thread::spawn(move || {
            // Read to the end, so that the node never waits for a reader.
            lines.map_while(Result::ok).for_each(|line| {
                if let Some((_, addr)) = line.split_once(" listens on ") {
                    let _ = give.send(addr.to_owned());
                }
            });
        });
        let Ok(addr) = found.recv_timeout(START_MAX) else {
            let _ = child.kill();
            let _ = child.wait();
            let said = std::fs::read_to_string(dir.join("log")).unwrap_or_default();
            let last = said.lines().last().unwrap_or("it says nothing").to_owned();
            return Err(format!("the node did not start: {last}"));
        };
        Ok(Self {
            child,
            dir: dir.to_owned(),
            target: addr.parse()?,
        })
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        // What it holds is not wanted any more.
        let _ = self.child.kill();
        let _ = self.child.wait();
        if let Err(error) = std::fs::remove_dir_all(&self.dir) {
            eprintln!("warning: cannot remove {}: {error}", self.dir.display());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn node_and_client_share_the_cpus() {
        assert_eq!(shares(&[0]), (vec![0], vec![0]));
        assert_eq!(shares(&[0, 1]), (vec![1], vec![0]));
        assert_eq!(shares(&[2, 3, 5]), (vec![3, 5], vec![2]));
        let many: Vec<usize> = (0..64).collect();
        assert_eq!(shares(&many).1.len(), 8);
    }

    #[test]
    fn what_bounds_a_node_is_told() {
        assert!(bound((0.5, 0.1), (0.5, 0.99)).contains("this client"));
        assert!(bound((0.5, 0.1), (0.95, 0.5)).contains("node's CPU"));
        assert!(bound((0.9, 0.1), (0.5, 0.5)).contains("syncs"));
        assert!(bound((0.5, 0.9), (0.5, 0.5)).contains("bandwidth"));
        assert!(bound((0.5, 0.1), (0.5, 0.5)).contains("latency"));
    }
}
