//! One line for each second, for logs and for those who want no more.

use std::time::Duration;

use crate::bench::engine::{Part, Second};
use crate::bench::report::table::{rate, time};
use crate::bench::tally::percentile_us;

/// A wait for the last answers that is told.
const DRAIN_TOLD: Duration = Duration::from_millis(500);

/// Tells whether there is something to say of a second: the last answers are none, unless one is wanting for long, or
/// wrong.
pub(crate) fn is_of_interest(second: &Second) -> bool {
    let tally = &second.tally;
    second.part != Part::Drain
        || second.length >= DRAIN_TOLD
        || tally.errors() + tally.wrong.sum() > 0
}

/// Returns the line of a second.
#[expect(clippy::cast_precision_loss, reason = "for people")]
pub(crate) fn line(what: &str, second: &Second) -> String {
    let response = second.tally.response();
    let per_second = second.tally.done() as f64 / second.length.as_secs_f64().max(1e-9);
    let us = |percent| time(percentile_us(&response, percent));
    let part = match second.part {
        Part::WarmUp => ", warm-up",
        Part::Measured => "",
        Part::Drain => ", draining",
    };
    let mut line = format!(
        "{what} {:>5.1} s: {}, p50 {}, p99 {}, max {}, {} in flight{part}",
        second.until.as_secs_f64(),
        rate(per_second),
        us(50.0),
        us(99.0),
        us(100.0),
        second.in_flight
    );
    let noted = [
        (second.tally.errors(), "errors"),
        (second.tally.wrong.sum(), "WRONG ANSWERS"),
    ];
    for (count, what) in noted.into_iter().filter(|(count, _)| *count > 0) {
        line += &format!(", {count} {what}");
    }
    line
}
