//! What `ashlar bench` does with flags: phases against each server, shown while they run and kept for the reports. Not
//! how a phase is run, and not how a report looks.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime};

use ashlar_io::{StopSignals, raise_open_files};

use super::feed::{Pace, Work};
use super::flags::{Flags, SweepFlags};
use super::knee::{Sample, Search};
use super::ledger::Ledger;
use super::mix::Kind;
use super::report::hdr::HdrLog;
use super::report::table::{self, rate};
use super::report::{self, Phase, Round, Subject, Sweep};
use super::run::{Outcome, Plan, Run};
use super::schedule::Rate;
use super::tally::percentile_us;
use super::target::Target;
use super::verdict::{self, Verdict};
use super::view::{Title, View};
use super::workload::{Form, ScanBy, Workload, World};

/// How often the view is drawn.
const LOOK: Duration = Duration::from_millis(100);

/// A server under load.
#[derive(Debug)]
struct Site {
    target: Target,
    world: Arc<World>,
    subject: Subject,
}

/// A session.
#[derive(Debug)]
pub(crate) struct Session<'a> {
    flags: &'a Flags,
    workload: Arc<Workload>,
    sites: Vec<Site>,
    stop: Arc<AtomicBool>,
    started: SystemTime,
    view: Option<View>,
    hdr: Option<HdrLog>,
    failure: Option<String>,
}

/// A run of the mix as a search judges it.
impl Sample {
    fn new(outcome: &Outcome, due: Rate, pace: Pace) -> Self {
        let response = outcome.tally.response();
        let verdict = Verdict::of(outcome, pace);
        Self {
            due: due.0,
            done: outcome.per_second(),
            p50_us: percentile_us(&response, 50.0),
            p99_us: percentile_us(&response, 99.0),
            is_sustained: verdict == Verdict::Sustained,
            is_client_bound: matches!(verdict, Verdict::ClientSaturated(_)),
        }
    }
}

impl<'a> Session<'a> {
    /// Begins a session: asks the servers what they are. `stop` ends it early.
    ///
    /// # Errors
    /// One line: a server does not answer, or lacks what the workload needs, there are too few open files, or a file
    /// cannot be made.
    pub(crate) fn new(flags: &'a Flags, stop: &Arc<AtomicBool>) -> Result<Self, String> {
        let open_files = raise_open_files();
        if open_files < u64::from(flags.connections) + 64 {
            return Err(format!(
                "--connections {} needs more open files than the {open_files} allowed here; raise the limit (ulimit -n)",
                flags.connections
            ));
        }
        let started = SystemTime::now();
        let mut session = Self {
            flags,
            workload: Arc::new(flags.asked.workload(flags.seed)?),
            sites: Vec::new(),
            stop: Arc::clone(stop),
            started,
            view: None,
            hdr: None,
            failure: None,
        };
        let run = session.run_number();
        for target in flags.targets() {
            let site = session.site(target, run)?;
            session.sites.push(site);
        }
        if let Some(path) = &flags.told.hdr {
            session.hdr = Some(HdrLog::create(
                path,
                &command_line(std::env::args()),
                started,
            )?);
        }
        session.view = Some(View::open(flags.told.no_tui));
        Ok(session)
    }

    /// Returns a number that no other run has, most likely.
    fn run_number(&self) -> u32 {
        let since = self
            .started
            .duration_since(SystemTime::UNIX_EPOCH)
            .unwrap_or_default();
        let hash = xxhash_rust::xxh3::xxh3_64(&since.as_nanos().to_le_bytes());
        u32::try_from(hash >> 32).expect("32 bits")
    }

    fn site(&self, target: Target, run: u32) -> Result<Site, String> {
        let (login, asked) = (self.flags.login.login(), &self.flags.asked);
        let server = target.ask(&login)?;
        let scans = self.workload.mix.has(Kind::Scan);
        let ordered = scans && asked.form == Form::String && target.knows(&login, "KV.SCAN");
        let scan_by = asked.scan_by.unwrap_or(match ordered {
            true => ScanBy::Kv,
            false => ScanBy::Index,
        });
        let needed = [
            (self.workload.form == Form::Hash, "HSET"),
            (scans && scan_by == ScanBy::Index, "ZADD"),
            (scans && scan_by == ScanBy::Kv, "KV.SCAN"),
        ];
        for (_, command) in needed.into_iter().filter(|(is_needed, _)| *is_needed) {
            if !target.knows(&login, command) {
                return Err(format!(
                    "{}: this workload needs {command}, which the server does not know",
                    target.addr
                ));
            }
        }
        let ledger = Ledger::new(run, asked.verify_keys);
        Ok(Site {
            subject: Subject::new(&target, server),
            world: Arc::new(World::new(ledger, scan_by, asked.keys)),
            target,
        })
    }

    /// Writes every key of every server.
    ///
    /// # Errors
    /// One line: a phase could not be run to its end.
    pub(crate) fn load(&mut self) -> Result<(), String> {
        (0..self.sites.len()).try_for_each(|site| self.phase(site, Work::Load))
    }

    /// Measures every server, in rounds if there are several.
    ///
    /// # Errors
    /// One line: a phase could not be run to its end.
    pub(crate) fn run(&mut self) -> Result<(), String> {
        if self.flags.load {
            self.load()?;
        }
        match self.sites.len() {
            1 => self.phase(0, Work::Run)?,
            _ => self.take_turns()?,
        }
        if self.flags.check {
            (0..self.sites.len()).try_for_each(|site| self.phase(site, Work::Check))?;
        }
        Ok(())
    }

    /// Looks for the knee of every server.
    ///
    /// # Errors
    /// One line: a phase could not be run to its end.
    pub(crate) fn sweep(&mut self, flags: &SweepFlags) -> Result<(), String> {
        if self.flags.load {
            self.load()?;
        }
        for site in 0..self.sites.len() {
            let mut search = Search::new(flags.from, flags.to, flags.limit());
            while let Some(due) = search.next().filter(|_| !self.is_stopped()) {
                let pace = Pace::Open(due, self.flags.arrivals);
                let outcome = self.measure(site, Work::Run, pace)?;
                if !self.is_stopped() {
                    search.note(Sample::new(&outcome, due, pace));
                }
                self.keep(site, &format!("run at {}", rate(due.0)), &outcome, pace);
            }
            self.sites[site].subject.sweep = Some(Sweep {
                samples: search.samples(),
                knee: search.knee(),
                words: search.words(),
            });
        }
        Ok(())
    }

    /// Measures several servers in turns, each round the other way round, so that what drifts meets all.
    fn take_turns(&mut self) -> Result<(), String> {
        let pace = self.flags.pace();
        let mut sums: Vec<(Outcome, Vec<Round>)> =
            self.sites.iter().map(|_| Default::default()).collect();
        for round in 0..self.flags.rounds {
            for turn in 0..self.sites.len() {
                let site = match round % 2 {
                    0 => turn,
                    _ => self.sites.len() - 1 - turn,
                };
                if self.is_stopped() {
                    continue;
                }
                let outcome = self.measure(site, Work::Run, pace)?;
                sums[site].1.push(Round::new(&outcome));
                sums[site].0.add(outcome);
            }
        }
        for (site, (outcome, rounds)) in sums.into_iter().enumerate() {
            self.keep(site, Work::Run.name(), &outcome, pace);
            let phases = &mut self.sites[site].subject.phases;
            phases.last_mut().expect("one was kept").rounds = rounds;
        }
        Ok(())
    }

    /// Runs a phase against a server, and keeps what came of it.
    fn phase(&mut self, site: usize, work: Work) -> Result<(), String> {
        if self.is_stopped() {
            return Ok(());
        }
        let outcome = self.measure(site, work, self.flags.pace())?;
        let pace = match work {
            Work::Run => self.flags.pace(),
            Work::Load | Work::Check => Pace::Closed(1),
        };
        self.keep(site, work.name(), &outcome, pace);
        Ok(())
    }

    fn measure(&mut self, site: usize, work: Work, pace: Pace) -> Result<Outcome, String> {
        let keys = match work {
            Work::Load => self.flags.asked.keys,
            Work::Run | Work::Check => self.sites[site].world.keys(),
        };
        let plan = self
            .flags
            .plan(&self.sites[site].target, (work, keys), pace);
        self.watch(site, &plan)
    }

    fn watch(&mut self, site: usize, plan: &Plan) -> Result<Outcome, String> {
        let site = &self.sites[site];
        let title = self.title(site, plan);
        let since = self.started.elapsed().unwrap_or_default();
        let mut run = Run::start(plan, &self.workload, &site.world, &self.stop);
        let whole = plan
            .times
            .measured
            .map(|measured| (plan.times.warm_up + measured).as_secs_f64());
        let view = self.view.as_mut().expect("it is closed at the end");
        view.begin(&title);
        while !run.is_over() {
            if let Some(second) = run.next(LOOK) {
                view.show(&title, &second);
                if let Some(log) = &mut self.hdr {
                    log.append((&site.subject.name, &title.what), since, &second)?;
                }
            }
            let elapsed = self
                .started
                .elapsed()
                .unwrap_or_default()
                .saturating_sub(since);
            let share =
                whole.map_or_else(|| run.feed.share(), |whole| elapsed.as_secs_f64() / whole);
            if view.draw(share) {
                self.stop.store(true, Ordering::Relaxed);
            }
        }
        run.finish()
    }

    fn title(&self, site: &Site, plan: &Plan) -> Title {
        let server = &site.subject.server;
        let pace = match plan.pace {
            Pace::Open(due, _) => format!("open loop at {}", rate(due.0)),
            Pace::Closed(pipeline) => format!("closed loop, pipeline {pipeline}"),
        };
        Title {
            what: plan.work.name().to_owned(),
            server: format!(
                "{} ({}), {}",
                site.subject.name, server.version, server.durability
            ),
            workload: format!(
                "{pace}, {} connections; {}",
                plan.connections,
                self.workload.describe()
            ),
        }
    }

    fn keep(&mut self, site: usize, what: &str, outcome: &Outcome, pace: Pace) {
        let phase = Phase::new(what, outcome, pace);
        self.sites[site].subject.phases.push(phase);
        if let Some(line) = verdict::failure(outcome) {
            let name = &self.sites[site].subject.name;
            self.failure
                .get_or_insert_with(|| format!("{what} of {name}: {line}"));
        }
    }

    /// Says whether the user has had enough.
    pub(crate) fn is_stopped(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }

    /// Returns what was measured of the first server.
    pub(crate) fn phases(&self) -> &[Phase] {
        self.sites.first().map_or(&[], |site| &site.subject.phases)
    }

    /// Closes the view, prints the summary, and writes the files that were asked for.
    ///
    /// # Errors
    /// One line: a file cannot be written.
    pub(crate) fn tell(&mut self) -> Result<(), String> {
        self.view = None;
        let subjects = self.sites.iter().map(|site| site.subject.clone()).collect();
        let line = command_line(std::env::args());
        let mut session =
            report::Session::new(line, self.started, self.workload.describe(), subjects);
        session.is_ended_early = self.is_stopped();
        let told = &self.flags.told;
        if let Some(path) = &told.html {
            write(path, &session.html())?;
        }
        match told.json.as_deref() {
            Some(path) if path == Path::new("-") => {
                print!("{}", session.json());
                return Ok(());
            }
            Some(path) => write(path, &session.json())?,
            None => {}
        }
        print!("{}", table::table(&session));
        Ok(())
    }

    /// Says in one line what makes the session a failure, if anything does.
    pub(crate) fn failure(&self) -> Option<String> {
        self.failure.clone()
    }
}

impl Workload {
    /// Returns it in words.
    pub(crate) fn describe(&self) -> String {
        let form = match self.form {
            Form::String => "strings".to_owned(),
            Form::Hash => format!("hashes of {} fields", self.fields()),
        };
        format!(
            "{}; keys {}, names of {} bytes; {form}, values of {}",
            self.mix.name(),
            self.distribution.name(),
            self.names.bytes(),
            self.sizes.name()
        )
    }
}

/// Returns the command line with passwords left out.
fn command_line(words: impl Iterator<Item = String>) -> String {
    let mut hide = false;
    let words = words.map(|word| {
        let hidden = std::mem::replace(&mut hide, word == "--password");
        match hidden || word.starts_with("--password=") {
            true => "***".to_owned(),
            false => word,
        }
    });
    words.collect::<Vec<_>>().join(" ")
}

/// Returns a switch that the first signal to stop turns on. To be called before there are threads.
pub(crate) fn stop_at_signal() -> Arc<AtomicBool> {
    let signals = StopSignals::block();
    let stop = Arc::new(AtomicBool::new(false));
    let switch = Arc::clone(&stop);
    std::thread::spawn(move || {
        let _ = signals.wait();
        switch.store(true, Ordering::Relaxed);
    });
    stop
}

fn write(path: &Path, text: &str) -> Result<(), String> {
    std::fs::write(path, text).map_err(|error| format!("cannot write {}: {error}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn passwords_are_not_told() {
        let words = [
            "ashlar",
            "bench",
            "--password",
            "secret",
            "-c",
            "3",
            "--password=secret",
        ];
        let line = command_line(words.into_iter().map(str::to_owned));
        assert_eq!(line, "ashlar bench --password *** -c 3 ***");
    }
}
