//! `ashlar bench`: load on a server that speaks the Redis protocol, and what it makes of it. Open loop unless told
//! otherwise: operations are due by a schedule that looks at nothing, and a latency counts from when its operation was
//! due, so that a server that stalls cannot hide it. Values verify themselves, and what was acknowledged is remembered:
//! a wrong answer makes the run fail.
//!
//! # Layout
//! - Pure, each a thing of its own: `zipf`, `keys`, `sealed`, `values`, `mix`, `schedule`, `feed`, `ledger`, `reply`,
//!   `pipeline`, `tally`, `verdict`, `knee`. `workload` joins what is asked; `author` writes commands, `reader` takes
//!   answers in.
//! - `engine` is one thread's load between turns, `thread` its reactor and sockets, `run` all threads of a phase.
//! - `flags` and `target` are what the user names; `session` does it; `report` and `view` are what the user sees.
//! - `trial` is what is done without any word: a node of its own, and the disk beneath it. `null` is the other side of
//!   a measurement of this client.

mod author;
mod engine;
mod feed;
mod flags;
mod keys;
mod knee;
mod ledger;
mod mix;
mod null;
mod pipeline;
mod reader;
mod reply;
mod report;
mod run;
mod schedule;
mod sealed;
mod session;
mod tally;
mod target;
mod thread;
mod trial;
mod values;
mod verdict;
mod view;
mod workload;
mod zipf;

use flags::{CompareFlags, Flags, SweepFlags};
use session::Session;

use crate::refusal::Failure;

/// Words of `ashlar bench`. Without any, a node is started in the current directory for half a minute and measured
/// beside what its disk can do.
#[derive(Clone, Debug, clap::Args)]
#[command(args_conflicts_with_subcommands = true)]
pub(crate) struct Args {
    #[command(subcommand)]
    what: Option<What>,
    #[command(flatten)]
    flags: Box<Flags>,
}

#[derive(Clone, Debug, clap::Subcommand)]
enum What {
    /// Measure a server under a load; the same as flags without a word
    Run(Box<Flags>),
    /// Write every key, and measure nothing else
    Load(Box<Flags>),
    /// Look for the highest rate at which latency stays what it was
    Sweep(Box<SweepFlags>),
    /// Measure several servers in turns, and tell how durable each is
    Compare(Box<CompareFlags>),
    /// Answer every command with as little work as possible: what this client can drive at most
    #[command(hide = true)]
    Null(null::Args),
}

/// Does what was asked for.
pub(crate) fn run(args: Args) -> Result<(), Failure> {
    match args.what {
        Some(What::Null(args)) => Ok(null::run(&args)?),
        Some(What::Load(flags)) => measure(&flags, Session::load),
        Some(What::Run(flags)) => measure(&flags, Session::run),
        Some(What::Compare(flags)) => {
            measure(&flags.all().map_err(Failure::Mistake)?, Session::run)
        }
        Some(What::Sweep(sweep)) => {
            sweep.check().map_err(Failure::Mistake)?;
            measure(&sweep.flags, |session| session.sweep(&sweep))
        }
        None if args.flags.is_default() => {
            match trial::run(&args.flags.told, &session::stop_at_signal())? {
                true => Ok(()),
                false => Err(Failure::Ended),
            }
        }
        None => measure(&args.flags, Session::run),
    }
}

/// Does something with a session, and tells what came of it, also of a part.
fn measure<'a>(
    flags: &'a Flags,
    what: impl FnOnce(&mut Session<'a>) -> Result<(), String>,
) -> Result<(), Failure> {
    flags.check().map_err(Failure::Mistake)?;
    let mut session = Session::new(flags, &session::stop_at_signal())?;
    let done = what(&mut session);
    session.tell()?;
    done?;
    match session.failure() {
        Some(line) => Err(Failure::Run(line)),
        None if session.is_stopped() => Err(Failure::Ended),
        None => Ok(()),
    }
}
