//! `ashlar doctor --probe`: what the device beneath a directory does, measured in about twenty seconds through the
//! reactor of a shard: reads by how many are under way, durable writes by method and size, and both at once. Not what a
//! node makes of it; `ashlar bench` and `ashlar bench-wal` measure that.
//!
//! It writes to a file of its own that has no name, so that it is gone however this ends. The result is kept by the
//! device's serial number, as TOML: `device`, `serial`, `measured_us` (microseconds since 1970), and a table `[[step]]`
//! of `what`, `per_second`, `p50_us`, `p99_us` and `mib_per_s` each.

use std::cell::{Cell, RefCell};
use std::io;
use std::path::Path;
use std::rc::Rc;
use std::time::Duration;

use ashlar_io::rng::Rng;
use ashlar_io::{BLOCK_BYTES, Buf, Durable, File, Monotonic, OpenOptions, Reactor, Settings, file};
use hdrhistogram::Histogram;

use super::machine::Machine;
use super::storage::Place;

/// Bytes of the file that is measured on.
const FILE_BYTES: u64 = 256 << 20;
/// Size of a read in bytes, and of the write beside reads.
const READ_BYTES: usize = 4096;
/// Reads under way.
const DEPTHS: [usize; 4] = [1, 4, 16, 64];
/// Reads under way beside a write.
const DEPTH_BESIDE: usize = 16;
/// Sizes of a durable write in bytes.
const SIZES: [usize; 3] = [4 << 10, 64 << 10, 256 << 10];
/// Turns of the two methods with each size.
const ROUNDS: u32 = 8;

/// How long things are measured.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Plan {
    /// Bytes of the file.
    file_bytes: u64,
    /// Time of one step.
    step: Duration,
}

impl Plan {
    /// Returns the one that takes about twenty seconds.
    pub(crate) fn whole() -> Self {
        Self {
            file_bytes: FILE_BYTES,
            step: Duration::from_millis(1700),
        }
    }

    /// Returns one that takes about five seconds, for a first guess.
    pub(crate) fn short() -> Self {
        Self {
            file_bytes: FILE_BYTES / 4,
            step: Duration::from_millis(350),
        }
    }
}

/// What was measured of a device.
#[derive(Debug, serde::Deserialize, serde::Serialize)]
pub(crate) struct Measured {
    /// Names of the disks, as below `/sys/block`.
    device: String,
    /// Its serial number, or what tells it from others.
    pub(crate) serial: String,
    /// When, in microseconds since 1970.
    measured_us: u64,
    step: Vec<Step>,
}

/// One step.
#[derive(Debug, serde::Deserialize, serde::Serialize)]
struct Step {
    what: String,
    per_second: u64,
    p50_us: f64,
    p99_us: f64,
    mib_per_s: f64,
}

/// Measures the device beneath a place.
///
/// # Errors
/// One line: no ring, no room, no permission, no direct IO, or a read or write that failed.
pub(crate) fn measure(machine: &Machine, place: &Place, plan: Plan) -> Result<Measured, String> {
    let reactor = Reactor::new(&Settings::default()).map_err(|error| error.to_string())?;
    let steps = steps(&reactor, &place.dir, plan);
    reactor.shut_down();
    let failed = |error: io::Error| format!("cannot measure in {}: {error}", place.dir.display());
    Ok(Measured {
        device: match place.disks.is_empty() {
            true => "not known".to_owned(),
            false => place.disks.join("+"),
        },
        serial: serial(machine, place),
        measured_us: reactor.wall().0,
        step: steps.map_err(failed)?,
    })
}

/// Returns what was kept in a directory of the device of a place, if anything was.
pub(crate) fn kept(dir: &Path, machine: &Machine, place: &Place) -> Option<Measured> {
    let serial = serial(machine, place);
    let text = std::fs::read_to_string(kept_file(dir, &serial)).ok()?;
    // What is not whole is measured again.
    toml::from_str(&text)
        .ok()
        .filter(|kept: &Measured| kept.serial == serial)
}

fn kept_file(dir: &Path, serial: &str) -> std::path::PathBuf {
    dir.join(format!("device-{serial}.toml"))
}

/// Returns what tells the disks of a place from others, in characters that a file's name may have.
fn serial(machine: &Machine, place: &Place) -> String {
    let of_disk = |disk: &String| {
        let names = ["serial", "device/serial", "device/wwid", "wwid"];
        let mut serials = names
            .iter()
            .filter_map(|name| machine.read(&format!("/sys/block/{disk}/{name}")));
        let serial = serials.find(|serial| !serial.is_empty());
        serial.unwrap_or_else(|| disk.clone())
    };
    let serials: Vec<String> = place.disks.iter().map(of_disk).collect();
    let is_plain = |c: char| c.is_ascii_alphanumeric() || c == '-';
    let joined = serials.join("-");
    let plain: String = joined
        .chars()
        .map(|c| if is_plain(c) { c } else { '_' })
        .take(100)
        .collect();
    match plain.is_empty() {
        true => "unknown".to_owned(),
        false => plain,
    }
}

fn steps(reactor: &Reactor, dir: &Path, plan: Plan) -> io::Result<Vec<Step>> {
    let (inner, owned) = (reactor.clone(), dir.to_owned());
    let file = reactor.block_on(async move { make_file(&inner, &owned, plan.file_bytes).await })?;
    let load = Load {
        reactor: reactor.clone(),
        file: Rc::new(file),
        plan,
    };
    let mut steps = Vec::new();
    for depth in DEPTHS {
        let tally = load.run(&[(Work::Read, depth)], plan.step)?.remove(0);
        steps.push(tally.step(format!("read 4 KiB, {depth} under way"), READ_BYTES));
    }
    for bytes in SIZES {
        steps.extend(load.compare_methods(bytes)?);
    }
    let write = Work::Write(Durable::Yes, READ_BYTES);
    let mut both = load.run(&[(write, 1), (Work::Read, DEPTH_BESIDE)], plan.step)?;
    let reads = both.remove(1);
    let beside = format!("durable write 4 KiB, dsync, beside {DEPTH_BESIDE} reads");
    steps.push(both.remove(0).step(beside, READ_BYTES));
    steps.push(reads.step(
        format!("read 4 KiB, {DEPTH_BESIDE} under way, beside it"),
        READ_BYTES,
    ));
    Ok(steps)
}

/// Makes a file without a name, full of what no device can make smaller.
async fn make_file(reactor: &Reactor, dir: &Path, bytes: u64) -> io::Result<File> {
    let path = dir.join(format!(".ashlar-probe-{:016x}", reactor.random()));
    let options = OpenOptions {
        write: true,
        create: true,
        create_new: true,
        direct: true,
    };
    let opened = File::open(reactor, &path, options).await;
    let removed = file::unlink(reactor, &path).await;
    let file = opened?;
    removed?;
    file.preallocate(bytes).await?;
    let mut rng = Rng::new(reactor.random());
    let mut buf = Buf::heap(BLOCK_BYTES);
    for block in 0..bytes / BLOCK_BYTES as u64 {
        rng.fill(buf.as_mut_slice());
        let (written, back) = file
            .write_at(buf, block * BLOCK_BYTES as u64, Durable::No)
            .await;
        written?;
        buf = back;
    }
    file.sync().await?;
    Ok(file)
}

/// What a task does again and again.
#[derive(Clone, Copy, Debug)]
enum Work {
    /// Reads a block somewhere.
    Read,
    /// Writes as many bytes one after the other, durable by the flag or by a sync.
    Write(Durable, usize),
}

/// Tasks on one file.
struct Load {
    reactor: Reactor,
    file: Rc<File>,
    plan: Plan,
}

impl Load {
    /// Measures both methods in turn, so that they meet the same noise.
    fn compare_methods(&self, bytes: usize) -> io::Result<Vec<Step>> {
        let methods = [(Durable::Yes, "dsync"), (Durable::No, "fdatasync")];
        let mut tallies = [Tally::default(), Tally::default()];
        for _ in 0..ROUNDS {
            for (tally, (method, _)) in tallies.iter_mut().zip(methods) {
                let work = Work::Write(method, bytes);
                tally.add(&self.run(&[(work, 1)], self.plan.step / ROUNDS)?[0]);
            }
        }
        let what = |word| format!("durable write {} KiB, {word}", bytes >> 10);
        let steps = tallies.iter().zip(methods);
        Ok(steps
            .map(|(tally, (_, word))| tally.step(what(word), bytes))
            .collect())
    }

    /// Runs some tasks of each kind for a time, and returns what each kind did.
    fn run(&self, kinds: &[(Work, usize)], time: Duration) -> io::Result<Vec<Tally>> {
        let started = self.reactor.read_clock();
        let until = started + time;
        let running = Rc::new(Cell::new(0_usize));
        let tallies: Vec<Rc<RefCell<Tally>>> = kinds.iter().map(|_| Rc::default()).collect();
        for ((work, tasks), tally) in kinds.iter().zip(&tallies) {
            for _ in 0..*tasks {
                running.set(running.get() + 1);
                let task = self.task(*work, until, Rc::clone(tally));
                let running = Rc::clone(&running);
                self.reactor.spawn(async move {
                    task.await;
                    running.set(running.get() - 1);
                });
            }
        }
        while running.get() > 0 {
            self.reactor.turn();
            self.reactor.park(None, || running.get() == 0);
        }
        let elapsed = self.reactor.read_clock().since(started);
        let whole = |tally: Rc<RefCell<Tally>>| {
            Tally {
                elapsed,
                ..tally.take()
            }
            .whole()
        };
        tallies.into_iter().map(whole).collect()
    }

    fn task(
        &self,
        work: Work,
        until: Monotonic,
        tally: Rc<RefCell<Tally>>,
    ) -> impl Future<Output = ()> + 'static {
        let (reactor, file, bytes) = (
            self.reactor.clone(),
            Rc::clone(&self.file),
            self.plan.file_bytes,
        );
        let mut rng = Rng::new(reactor.random());
        async move {
            let size = match work {
                Work::Read => READ_BYTES,
                Work::Write(_, size) => size,
            };
            let (places, mut place) = (bytes / size as u64, 0);
            let mut buf = reactor.buffer(size);
            buf.set_len(size);
            rng.fill(buf.as_mut_slice());
            loop {
                let started = reactor.read_clock();
                if started >= until {
                    return;
                }
                let (result, back) = once(&file, work, buf, place * size as u64).await;
                buf = back;
                let took = reactor.read_clock().since(started);
                if !tally.borrow_mut().note(result, took) {
                    return;
                }
                place = match work {
                    Work::Read => rng.below(places),
                    Work::Write(..) => (place + 1) % places,
                };
            }
        }
    }
}

async fn once(file: &File, work: Work, buf: Buf, offset: u64) -> (io::Result<()>, Buf) {
    match work {
        Work::Read => {
            let (read, buf) = file.read_at(buf, offset).await;
            (read.map(drop), buf)
        }
        Work::Write(durable, _) => {
            let (written, buf) = file.write_at(buf, offset, durable).await;
            match (written, durable) {
                (Ok(_), Durable::No) => (file.sync().await, buf),
                (written, _) => (written.map(drop), buf),
            }
        }
    }
}

/// How long each took, how long all of them together, and the first failure.
struct Tally {
    latencies: Histogram<u64>,
    elapsed: Duration,
    failure: Option<io::Error>,
}

impl Default for Tally {
    fn default() -> Self {
        let bounds = "the bounds are constants that hdrhistogram accepts";
        Self {
            latencies: Histogram::new_with_bounds(1, 60_000_000_000, 3).expect(bounds),
            elapsed: Duration::ZERO,
            failure: None,
        }
    }
}

impl Tally {
    /// Notes one; says whether to go on.
    fn note(&mut self, result: io::Result<()>, took: Duration) -> bool {
        let ns = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX);
        self.latencies.saturating_record(ns.max(1));
        match result {
            Ok(()) => true,
            Err(error) => {
                self.failure.get_or_insert(error);
                false
            }
        }
    }

    /// Adds what another one has counted.
    fn add(&mut self, other: &Self) {
        let added = self.latencies.add(&other.latencies);
        added.expect("both have the same bounds");
        self.elapsed += other.elapsed;
    }

    fn whole(self) -> io::Result<Self> {
        match self.failure {
            Some(error) => Err(error),
            None => Ok(self),
        }
    }

    #[expect(
        clippy::cast_precision_loss,
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "for people"
    )]
    fn step(&self, what: String, bytes: usize) -> Step {
        let us = |percent: f64| {
            (self.latencies.value_at_percentile(percent) as f64 / 100.0).round() / 10.0
        };
        let per_second = self.latencies.len() as f64 / self.elapsed.as_secs_f64().max(1e-9);
        let mib_per_s = per_second * bytes as f64 / f64::from(1 << 20);
        Step {
            what,
            per_second: per_second as u64,
            p50_us: us(50.0),
            p99_us: us(99.0),
            mib_per_s: (mib_per_s * 10.0).round() / 10.0,
        }
    }
}

impl Measured {
    /// Returns the names of the disks and their serial number.
    pub(crate) fn name(&self) -> String {
        format!("{} (serial {})", self.device, self.serial)
    }

    /// Returns how many durable writes of some KiB it does in a second, one after the other, by the better method, and
    /// how many MiB they are.
    pub(crate) fn durable_writes(&self, kib: usize) -> Option<(f64, f64)> {
        let name = format!("durable write {kib} KiB, ");
        let is_alone = |step: &&Step| step.what.starts_with(&name) && !step.what.contains("beside");
        let steps = self.step.iter().filter(is_alone);
        let best = steps.max_by_key(|step| step.per_second)?;
        Some((best.per_second as f64, best.mib_per_s))
    }

    /// Returns the table for people.
    pub(crate) fn table(&self) -> String {
        let width = self
            .step
            .iter()
            .map(|step| step.what.len())
            .max()
            .unwrap_or(0);
        let mut text = format!("device {} (serial {})\n", self.device, self.serial);
        text += &format!(
            "{:width$}  {:>9}  {:>9}  {:>9}  {:>8}\n",
            "", "per s", "p50 us", "p99 us", "MiB/s"
        );
        for Step {
            what,
            per_second,
            p50_us,
            p99_us,
            mib_per_s,
        } in &self.step
        {
            text += &format!(
                "{what:width$}  {per_second:>9}  {p50_us:>9.1}  {p99_us:>9.1}  {mib_per_s:>8.1}\n"
            );
        }
        text
    }

    /// Keeps the result in a directory, beside those of other devices; returns the file.
    ///
    /// # Errors
    /// One line that names the file.
    pub(crate) fn keep(&self, dir: &Path) -> Result<std::path::PathBuf, String> {
        let path = kept_file(dir, &self.serial);
        let text = toml::to_string(self).expect("two levels of strings and numbers are TOML");
        let written = std::fs::create_dir_all(dir).and_then(|()| std::fs::write(&path, text));
        match written {
            Ok(()) => Ok(path),
            Err(error) => Err(format!(
                "cannot keep the result in {}: {error}",
                path.display()
            )),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::fixture::Fixture;
    use super::*;

    #[test]
    fn a_device_is_measured_and_nothing_is_left() {
        let dir = tempfile::tempdir().unwrap();
        let machine = Machine::at(Path::new("/"));
        let place = Place::find(&machine, dir.path()).unwrap();
        let plan = Plan {
            file_bytes: 1 << 20,
            step: Duration::from_millis(10),
        };
        let measured = measure(&machine, &place, plan).unwrap();
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
        assert_eq!(measured.step.len(), DEPTHS.len() + 2 * SIZES.len() + 2);
        assert!(
            measured
                .step
                .iter()
                .all(|step| step.p50_us > 0.0 && step.p50_us <= step.p99_us)
        );
        assert_eq!(measured.table().lines().count(), measured.step.len() + 2);
        let path = measured.keep(dir.path()).unwrap();
        let again = kept(dir.path(), &machine, &place).unwrap();
        assert_eq!(again.durable_writes(4), measured.durable_writes(4));
        assert!(
            measured.durable_writes(4).unwrap().0 > 0.0 && measured.durable_writes(5).is_none()
        );
        let table: toml::Table = toml::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
        assert_eq!(table["step"].as_array().unwrap().len(), measured.step.len());
    }

    #[test]
    fn a_serial_number_is_fit_for_the_name_of_a_file() {
        let fixture = Fixture::new(&[("/sys/block/nvme0n1/device/serial", "S3/.. X1\n")]);
        let place = |disks: &[&str]| Place {
            dir: "/".into(),
            mount: None,
            disks: disks.iter().map(|disk| (*disk).to_owned()).collect(),
        };
        assert_eq!(serial(&fixture.machine, &place(&["nvme0n1"])), "S3____X1");
        assert_eq!(serial(&fixture.machine, &place(&["vda", "vdb"])), "vda-vdb");
        assert_eq!(serial(&fixture.machine, &place(&[])), "unknown");
    }
}
