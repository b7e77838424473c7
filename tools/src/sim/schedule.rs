//! What happens to a run from outside, as data: when nodes die, lose their disks and come back, which ways are cut,
//! who becomes a member, and what clients ask. A run writes it down as it draws it, and can be given it in the place
//! of drawing: so a failure can be kept as a text, replayed, and made smaller.
//!
//! What happens to single segments and disk operations is not written down one by one, but as rates: the simulated
//! world draws it from the seed. So a schedule that was not changed repeats its run exactly, and one that lacks
//! something is a run of its own.
//!
//! A line each; times are virtual seconds since the beginning, what clients ask by the clients' own clock, which may
//! drift; machines are counted from 0, `#` begins a comment:
//! ```text
//! seed 17                    nodes 3, spares 2, shards 2, clients 6, rate 500 (operations per second), damages 0
//! length 5.0                 virtual seconds before everything is healed and checked
//! deaths random              or none: whether nodes die, ways are cut and members change
//! plant VotesTwice           a mistake that the replicas make, in a build that has them
//! disk.stall 0.0001          a rate or bound of the world (`KNOBS`); what is not said is as in a world without faults
//! 1.250000000 die 2 power    node 2 dies, with all that its disk has not synced; `kill`: with the disk as it is
//! 1.300000000 boot 2         it comes back            1.3 gone 2   it never does
//! 1.350000000 rot 2 99       its log is damaged while it is down; where and how is drawn from the number
//! 1.400000000 lose 0         it dies, and its disk with it; an operator replaces it
//! 1.500000000 cut 0 1        what 0 sends to 1 is lost          1.6 mend 0 1
//! 1.700000000 pause 1 0.25   it stands still for so many seconds
//! 1.800000000 damage 77      a file of a table is damaged; which and how is drawn from the number
//! 2.000000000 join 3         a node with an empty disk becomes a member      3.0 leave 0   a member leaves
//! 2.100000000 ask 4 12345    client 4 asks something, which is drawn from the number
//! ```

use std::cell::RefCell;
use std::collections::{BTreeMap, VecDeque};
use std::fmt::{self, Display};
use std::fs::File;
use std::io::Write;
use std::rc::Rc;
use std::time::Duration;

use ashlar_io::rng::Rng;
use ashlar_io::sim::Faults;

use super::knobs::{self, Knob};
use super::plant::Plant;
use super::run::{Deaths, Plan};

/// Something that happens to the nodes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    Die { machine: u32, power_cut: bool },
    Boot(u32),
    Gone(u32),
    LoseDisk(u32),
    Rot(u32, u64),
    Cut(u32, u32),
    Mend(u32, u32),
    Pause(u32, Duration),
    Damage(u64),
    Join(u32),
    Leave(u32),
}

/// One line: something happens, or a client asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    Fault(Fault),
    Ask { client: u32, seed: u64 },
}

/// A step and when, in nanoseconds.
pub(super) type Line = (u64, Step);

/// A run as data.
#[derive(Clone, Debug)]
pub(super) struct Schedule {
    pub(super) plan: Plan,
    pub(super) lines: Vec<Line>,
}

/// Writes down what happens in a run.
#[derive(Debug, Default)]
pub(super) struct Recorder {
    lines: RefCell<Vec<Line>>,
    /// Written to at once, since a panic may end the process.
    file: Option<RefCell<File>>,
}

/// Of each client, when it asks and the numbers to draw from.
type Asks = BTreeMap<u32, VecDeque<(u64, u64)>>;

/// Where clients have what they ask from.
#[derive(Debug)]
pub(super) struct Script {
    /// What is asked; none when it is drawn.
    given: Option<RefCell<Asks>>,
    recorder: Option<Rc<Recorder>>,
}

impl Script {
    /// Returns when a client asks next and the number that it draws from; none when it asks no more.
    pub(super) fn next(&self, client: u32, now_ns: u64, rng: &mut Rng) -> Option<(u64, u64)> {
        let (at_ns, seed) = match &self.given {
            Some(asks) => asks.borrow_mut().get_mut(&client)?.pop_front()?,
            None => (now_ns, rng.next_u64()),
        };
        if let Some(recorder) = &self.recorder {
            recorder.note((at_ns.max(now_ns), Step::Ask { client, seed }));
        }
        Some((at_ns, seed))
    }

    /// Returns a script that is drawn, and written down if somebody wants it.
    pub(super) fn drawn(recorder: Option<Rc<Recorder>>) -> Self {
        let given = None;
        Self { given, recorder }
    }

    /// Returns the script that a schedule has.
    pub(super) fn given(lines: &[Line], recorder: Rc<Recorder>) -> Self {
        let mut asks = Asks::new();
        for (at_ns, step) in lines {
            if let Step::Ask { client, seed } = step {
                asks.entry(*client).or_default().push_back((*at_ns, *seed));
            }
        }
        Self {
            given: Some(RefCell::new(asks)),
            recorder: Some(recorder),
        }
    }
}

impl Recorder {
    /// Returns one that also writes to a file, which it begins with the plan.
    pub(super) fn to_file(mut file: File, plan: &Plan) -> std::io::Result<Self> {
        file.write_all(head(plan).as_bytes())?;
        Ok(Self {
            lines: RefCell::default(),
            file: Some(RefCell::new(file)),
        })
    }

    /// Notes that something happens.
    pub(super) fn note(&self, line: Line) {
        if let Some(file) = &self.file {
            // What is missing in the file is seen when it is replayed.
            let _ = writeln!(file.borrow_mut(), "{}", Shown(&line));
        }
        self.lines.borrow_mut().push(line);
    }

    /// Takes what was noted.
    #[cfg(test)]
    pub(super) fn take(&self) -> Vec<Line> {
        self.lines.take()
    }
}

fn seconds(ns: u64) -> String {
    format!("{}.{:09}", ns / 1_000_000_000, ns % 1_000_000_000)
}

/// A line as it is written.
struct Shown<'a>(&'a Line);

impl Display for Shown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (at_ns, step) = self.0;
        write!(f, "{} ", seconds(*at_ns))?;
        let fault = match step {
            Step::Ask { client, seed } => return write!(f, "ask {client} {seed}"),
            Step::Fault(fault) => fault,
        };
        match fault {
            Fault::Die { machine, power_cut } => {
                let how = if *power_cut { "power" } else { "kill" };
                write!(f, "die {machine} {how}")
            }
            Fault::Boot(machine) => write!(f, "boot {machine}"),
            Fault::Gone(machine) => write!(f, "gone {machine}"),
            Fault::LoseDisk(machine) => write!(f, "lose {machine}"),
            Fault::Rot(machine, seed) => write!(f, "rot {machine} {seed}"),
            Fault::Cut(from, to) => write!(f, "cut {from} {to}"),
            Fault::Mend(from, to) => write!(f, "mend {from} {to}"),
            Fault::Pause(machine, length) => {
                let ns = u64::try_from(length.as_nanos()).unwrap_or(u64::MAX);
                write!(f, "pause {machine} {}", seconds(ns))
            }
            Fault::Damage(seed) => write!(f, "damage {seed}"),
            Fault::Join(machine) => write!(f, "join {machine}"),
            Fault::Leave(machine) => write!(f, "leave {machine}"),
        }
    }
}

/// Returns the lines that say what is run.
fn head(plan: &Plan) -> String {
    let length_ns = u64::try_from(plan.length.as_nanos()).unwrap_or(u64::MAX);
    let deaths = match plan.deaths {
        Deaths::Random => "random",
        Deaths::None => "none",
    };
    let mut text = format!(
        "seed {}\nnodes {}\nspares {}\nshards {}\nclients {}\nrate {}\ndamages {}\nlength {}\ndeaths {deaths}\n",
        plan.seed,
        plan.nodes,
        plan.spares,
        plan.shards,
        plan.clients,
        plan.rate,
        plan.damages,
        seconds(length_ns)
    );
    if let Some(name) = plan.plant.name() {
        text += &format!("plant {name}\n");
    }
    let (mut faults, mut none) = (plan.faults.clone(), Faults::none());
    for ((name, knob), (_, usual)) in knobs::of(&mut faults).into_iter().zip(knobs::of(&mut none)) {
        if knob.text() != usual.text() {
            text += &format!("{name} {}\n", knob.text());
        }
    }
    text
}

impl Display for Schedule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&head(&self.plan))?;
        self.lines
            .iter()
            .try_for_each(|line| writeln!(f, "{}", Shown(line)))
    }
}

impl Schedule {
    /// Reads a schedule.
    ///
    /// # Errors
    /// The first line that says nothing known, by its number.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let mut schedule = Self {
            plan: Plan::empty(),
            lines: Vec::new(),
        };
        for (line, number) in text.lines().zip(1..) {
            let line = line.split('#').next().unwrap_or_default();
            let words: Vec<&str> = line.split_whitespace().collect();
            let Some((first, rest)) = words.split_first() else {
                continue;
            };
            let taken = match nanoseconds(first) {
                Some(at_ns) if !rest.is_empty() => {
                    parse_step(rest).map(|step| schedule.lines.push((at_ns, step)))
                }
                _ => schedule.plan.take(first, rest),
            };
            taken.ok_or_else(|| format!("line {number} says nothing known: {line:?}"))?;
        }
        if schedule.plan.nodes == 0 || schedule.plan.length.is_zero() {
            return Err("a schedule says at least seed, nodes and length".to_owned());
        }
        let machines = schedule.plan.nodes + schedule.plan.spares;
        let mut before = BTreeMap::new();
        let early = schedule.lines.iter().find(|(at_ns, step)| {
            let before = before.insert(step.client(), *at_ns);
            before.is_some_and(|before| before > *at_ns)
        });
        if let Some(line) = early {
            return Err(format!("{} comes before its time", Shown(line)));
        }
        let strange = schedule.lines.iter().find(|line| match line.1 {
            Step::Fault(fault) => fault.machines().is_some_and(|of| of > machines),
            Step::Ask { client, .. } => client >= schedule.plan.clients,
        });
        match strange {
            Some(line) => Err(format!("{} names somebody who is not there", Shown(line))),
            None => Ok(schedule),
        }
    }
}

impl Step {
    /// Returns the client that asks; none when something happens.
    fn client(&self) -> Option<u32> {
        match self {
            Self::Fault(_) => None,
            Self::Ask { client, .. } => Some(*client),
        }
    }
}

impl Fault {
    /// Returns the highest machine that it names; the clients' has the number behind the last node.
    fn machines(&self) -> Option<u32> {
        match *self {
            Self::Cut(from, to) | Self::Mend(from, to) => Some(from.max(to)),
            Self::Damage(_) => None,
            Self::Die { machine, .. }
            | Self::Boot(machine)
            | Self::Gone(machine)
            | Self::LoseDisk(machine)
            | Self::Rot(machine, _)
            | Self::Pause(machine, _)
            | Self::Join(machine)
            | Self::Leave(machine) => Some(machine + 1),
        }
    }
}

/// Returns the nanoseconds of a number of seconds.
fn nanoseconds(word: &str) -> Option<u64> {
    let (whole, part) = word.split_once('.').unwrap_or((word, ""));
    if part.len() > 9 || part.bytes().any(|byte| !byte.is_ascii_digit()) {
        return None;
    }
    let whole: u64 = whole.parse().ok()?;
    let part: u64 = format!("{part:0<9}").parse().ok()?;
    whole.checked_mul(1_000_000_000)?.checked_add(part)
}

fn parse_step(words: &[&str]) -> Option<Step> {
    let number = |at: usize| words.get(at)?.parse::<u32>().ok();
    let seed = |at: usize| words.get(at)?.parse::<u64>().ok();
    let fault = match (words[0], words.len()) {
        ("ask", 3) => {
            let (client, seed) = (number(1)?, seed(2)?);
            return Some(Step::Ask { client, seed });
        }
        ("die", 3) => Fault::Die {
            machine: number(1)?,
            power_cut: match words[2] {
                "power" => true,
                "kill" => false,
                _ => return None,
            },
        },
        ("boot", 2) => Fault::Boot(number(1)?),
        ("gone", 2) => Fault::Gone(number(1)?),
        ("rot", 3) => Fault::Rot(number(1)?, seed(2)?),
        ("lose", 2) => Fault::LoseDisk(number(1)?),
        ("cut", 3) => Fault::Cut(number(1)?, number(2)?),
        ("mend", 3) => Fault::Mend(number(1)?, number(2)?),
        ("pause", 3) => Fault::Pause(number(1)?, Duration::from_nanos(nanoseconds(words[2])?)),
        ("damage", 2) => Fault::Damage(seed(1)?),
        ("join", 2) => Fault::Join(number(1)?),
        ("leave", 2) => Fault::Leave(number(1)?),
        _ => return None,
    };
    Some(Step::Fault(fault))
}

impl Plan {
    /// Returns a plan that nothing was said of.
    fn empty() -> Self {
        Self {
            seed: 0,
            faults: Faults::none(),
            length: Duration::ZERO,
            nodes: 0,
            spares: 0,
            shards: 2,
            clients: 8,
            rate: 1000,
            damages: 0,
            deaths: Deaths::Random,
            plant: Plant::default(),
        }
    }

    /// Takes in what a line says of it.
    fn take(&mut self, name: &str, rest: &[&str]) -> Option<()> {
        let [word] = rest else { return None };
        let small = |most: u32| word.parse::<u32>().ok().filter(|number| *number <= most);
        match name {
            "seed" => self.seed = word.parse().ok()?,
            "nodes" => self.nodes = small(7)?,
            "spares" => self.spares = small(7)?,
            "shards" => self.shards = small(16).filter(|shards| *shards > 0)?,
            "clients" => self.clients = small(1000).filter(|clients| *clients > 0)?,
            "rate" => self.rate = word.parse().ok().filter(|rate| *rate > 0)?,
            "damages" => self.damages = small(100)?,
            "length" => self.length = Duration::from_nanos(nanoseconds(word)?),
            "deaths" => {
                self.deaths = match *word {
                    "random" => Deaths::Random,
                    "none" => Deaths::None,
                    _ => return None,
                }
            }
            "plant" => self.plant = Plant::named(word)?,
            _ => {
                let mut all = knobs::of(&mut self.faults);
                let (_, knob) = all.iter_mut().find(|(known, _)| *known == name)?;
                return Knob::set(knob, word);
            }
        }
        Some(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_schedule_is_read_as_it_was_written() {
        let mut schedule = Schedule::parse("seed 9\nnodes 3\nspares 2\nlength 1.5").unwrap();
        schedule.plan.faults = Faults::swarm(&mut Rng::new(4));
        let faults = [
            Fault::Die {
                machine: 2,
                power_cut: true,
            },
            Fault::Boot(2),
            Fault::Gone(1),
            Fault::LoseDisk(0),
            Fault::Rot(2, u64::MAX),
            Fault::Cut(0, 5),
            Fault::Mend(5, 0),
            Fault::Pause(1, Duration::from_nanos(1_234_567_890)),
            Fault::Damage(77),
            Fault::Join(4),
            Fault::Leave(0),
        ];
        schedule.lines = faults
            .map(|fault| (1_000_000_007, Step::Fault(fault)))
            .to_vec();
        let (client, seed) = (7, u64::MAX);
        schedule
            .lines
            .push((2_000_000_000, Step::Ask { client, seed }));
        let text = schedule.to_string();
        let read = Schedule::parse(&text).unwrap();
        assert_eq!(read.to_string(), text);
        assert_eq!(read.lines, schedule.lines);
        assert_eq!(read.plan.faults, schedule.plan.faults);
    }

    #[test]
    fn a_line_that_says_nothing_known_is_named() {
        let head = "seed 1\nnodes 3\nlength 1\n";
        let cases = [
            ("1.0 dies 2", "line 4 says nothing known"),
            ("1.0 die 2", "line 4 says nothing known"),
            ("disk.stahl 0.1", "line 4 says nothing known"),
            ("disk.stall lots", "line 4 says nothing known"),
            ("1.0 boot 3", "names somebody who is not there"),
            ("1.0 ask 8 1", "names somebody who is not there"),
            ("2.0 boot 1\n1.0 boot 1", "comes before its time"),
            ("2.0 ask 1 5\n1.0 ask 1 5", "comes before its time"),
        ];
        for (line, what) in cases {
            let error = Schedule::parse(&format!("{head}{line}\n")).unwrap_err();
            assert!(error.contains(what), "{line}: {error}");
        }
        assert!(Schedule::parse(&format!("{head}1.1 ask 1 5\n1.0 boot 1\n")).is_ok());
        assert!(Schedule::parse("# nothing\n").is_err());
        assert!(Schedule::parse(&format!("{head}1.0 cut 0 3 # from clients\n")).is_ok());
    }
}
