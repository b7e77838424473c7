//! A session as text for people.

use std::fmt::Write as _;

use super::{Percentiles, Phase, Round, Row, Session, Subject, Sweep};
use crate::bench::feed::Work;
use crate::inspect::show::size;

/// What of a round stands in a column, and how it is shown.
type Column = (&'static str, fn(&Round) -> f64, fn(f64) -> String);

/// Returns the table of a session.
pub(crate) fn table(session: &Session) -> String {
    let mut out = format!("{}\n", session.workload);
    for subject in &session.subjects {
        out.push_str(&head(subject));
        match &subject.sweep {
            Some(sweep) => out.push_str(&sweep_table(sweep)),
            None => subject
                .phases
                .iter()
                .for_each(|phase| out.push_str(&phase_table(phase))),
        }
    }
    out.push_str(&comparison(&session.subjects));
    if let Some(warning) = unequal(&session.subjects) {
        writeln!(out, "\n{warning}").expect("a string takes all");
    }
    out
}

fn head(subject: &Subject) -> String {
    let Subject {
        name, addr, server, ..
    } = subject;
    let named = match name == addr {
        true => String::new(),
        false => format!("{addr}, "),
    };
    format!(
        "\n{name} ({named}{})\n  {}\n",
        server.version, server.durability
    )
}

/// Returns the rates of a sweep and what was found.
fn sweep_table(sweep: &Sweep) -> String {
    let mut out = format!(
        "    {:>12}{:>12}{:>10}{:>10}\n",
        "due", "done", "p50", "p99"
    );
    for sample in &sweep.samples {
        let note = match (sample.is_client_bound, sample.is_sustained) {
            (true, _) => "  this client was the bottleneck",
            (_, false) => "  fell behind",
            _ => "",
        };
        let (due, done) = (rate(sample.due), rate(sample.done));
        let (p50, p99) = (time(sample.p50_us), time(sample.p99_us));
        writeln!(out, "    {due:>12}{done:>12}{p50:>10}{p99:>10}{note}")
            .expect("a string takes all");
    }
    out + &format!("    {}\n", sweep.words)
}

/// Numbers of servers beside each other: what each column is called; of each server its name, how durable it is, and
/// the median of each column with its ratio to the first server's.
#[derive(Clone, Debug)]
pub(crate) struct Comparison<'a> {
    pub(crate) rounds: usize,
    pub(crate) columns: [&'static str; 4],
    pub(crate) rows: Vec<(&'a Subject, [(String, f64); 4])>,
}

/// Sets servers beside each other that were measured in rounds; `None` where there are no others, or no rounds.
pub(crate) fn compare(subjects: &[Subject]) -> Option<Comparison<'_>> {
    let rounds = |subject: &Subject| subject.main_phase().map_or(0, |phase| phase.rounds.len());
    if subjects.len() < 2 || subjects.iter().any(|subject| rounds(subject) == 0) {
        return None;
    }
    let median = |subject: &Subject, pick: fn(&Round) -> f64| {
        let phase = subject.main_phase().expect("it has rounds");
        let mut numbers: Vec<f64> = phase.rounds.iter().map(pick).collect();
        numbers.sort_by(f64::total_cmp);
        numbers[numbers.len() / 2]
    };
    let columns: [Column; 4] = [
        ("rate", |round| round.per_second, rate),
        ("p50", |round| round.p50_us, time),
        ("p99", |round| round.p99_us, time),
        ("p99.9", |round| round.p999_us, time),
    ];
    let row = |subject| {
        let cell = |(_, pick, label): Column| {
            let number = median(subject, pick);
            let ratio = number / median(&subjects[0], pick).max(1e-9);
            (label(number), ratio)
        };
        (subject, columns.map(cell))
    };
    Some(Comparison {
        rounds: rounds(&subjects[0]),
        columns: columns.map(|(name, ..)| name),
        rows: subjects.iter().map(row).collect(),
    })
}

fn comparison(subjects: &[Subject]) -> String {
    let Some(compared) = compare(subjects) else {
        return String::new();
    };
    let mut out = format!(
        "\nmedians of {} rounds, and ratios to the first\n",
        compared.rounds
    );
    let heads = compared.columns.map(|name| format!("{name:>12}{:>7}", ""));
    writeln!(out, "    {:<32}{}", "", heads.concat()).expect("a string takes all");
    for (subject, cells) in compared.rows {
        let cells = cells.map(|(number, ratio)| format!("{number:>12}{ratio:>7.2}"));
        writeln!(
            out,
            "    {:<32}{}\n      {}",
            subject.name,
            cells.concat(),
            subject.server.durability
        )
        .expect("a string takes all");
    }
    out
}

/// Says that durable and other servers must not be compared, when there are both.
fn unequal(subjects: &[Subject]) -> Option<String> {
    let of = |durable: bool| {
        let found = subjects
            .iter()
            .filter(move |subject| (subject.server.is_durable == Some(true)) == durable);
        found
            .map(|subject| subject.name.as_str())
            .collect::<Vec<_>>()
            .join(", ")
    };
    let (durable, other) = (of(true), of(false));
    let both = !durable.is_empty() && !other.is_empty();
    both.then(|| format!("not comparable: writes of {durable} are on disk when they are answered, those of {other} are not"))
}

/// Returns the table of one phase.
pub(crate) fn phase_table(phase: &Phase) -> String {
    let due = match phase.due_per_second {
        Some(due) => format!("open loop, {} due", rate(due)),
        None => "closed loop".to_owned(),
    };
    let mut out = format!(
        "  {}: {:.1} s, {due}, {} done\n",
        phase.what,
        phase.seconds,
        rate(phase.per_second)
    );
    let heads = ["", "op/s", "p50", "p90", "p99", "p99.9", "max", "errors"];
    line(&mut out, &heads.map(str::to_owned));
    let rows = phase
        .kinds
        .iter()
        .chain((phase.kinds.len() != 1).then_some(&phase.all));
    for row in rows {
        line(&mut out, &cells(row, &row.response));
        if phase.due_per_second.is_some() {
            let mut cells = cells(row, &row.service);
            "  service".clone_into(&mut cells[0]);
            (cells[1], cells[7]) = (String::new(), String::new());
            line(&mut out, &cells);
        }
    }
    out.push_str(&remarks(phase));
    out
}

fn line(out: &mut String, cells: &[String; 8]) {
    let [name, rate, rest @ ..] = cells;
    let rest: String = rest.iter().map(|cell| format!("{cell:>10}")).collect();
    writeln!(out, "    {name:<10}{rate:>12}{rest}").expect("a string takes all");
}

fn cells(row: &Row, percentiles: &Percentiles) -> [String; 8] {
    let Percentiles {
        p50_us,
        p90_us,
        p99_us,
        p999_us,
        max_us,
        ..
    } = *percentiles;
    let [p50, p90, p99, p999, max] = [p50_us, p90_us, p99_us, p999_us, max_us].map(time);
    let per_second = format!("{:.0}", row.per_second);
    [
        row.name.to_owned(),
        per_second,
        p50,
        p90,
        p99,
        p999,
        max,
        row.errors.to_string(),
    ]
}

fn remarks(phase: &Phase) -> String {
    let mut lines = Vec::new();
    if phase.late_for_client + phase.late_for_server + phase.unsent > 0 {
        lines.push(format!(
            "missed schedule: {} sent late while the server held back, {} by this client, {} never sent",
            phase.late_for_server, phase.late_for_client, phase.unsent
        ));
    }
    if phase.unanswered > 0 {
        lines.push(format!("never answered: {}", phase.unanswered));
    }
    if phase.misses > 0 {
        lines.push(format!("{} reads found no value", phase.misses));
    }
    match (phase.verified, phase.wrong.sum()) {
        // It reads nothing.
        (0, 0) if phase.what == Work::Load.name() => {}
        (0, 0) => lines.push("no value was verified".to_owned()),
        (verified, wrong) => lines.push(format!("{verified} answers verified, {wrong} wrong")),
    }
    for (what, text) in [
        ("error", &phase.first_error),
        ("wrong answer", &phase.first_wrong),
    ] {
        if let Some(text) = text {
            lines.push(format!("first {what}: {}", text.escape_debug()));
        }
    }
    let busy: Vec<String> = phase
        .client_busy
        .iter()
        .map(|busy| format!("{:.0} %", busy * 100.0))
        .collect();
    lines.push(format!(
        "sent {}, received {}; client CPU {}",
        size(phase.sent_bytes),
        size(phase.received_bytes),
        busy.join(", ")
    ));
    lines.push(phase.verdict.clone());
    lines
        .into_iter()
        .map(|line| format!("    {line}\n"))
        .collect()
}

/// Returns operations per second, for people.
pub(crate) fn rate(per_second: f64) -> String {
    match per_second {
        low if low < 1e4 => format!("{low:.0}/s"),
        middle if middle < 1e6 => format!("{:.1} k/s", middle / 1e3),
        high => format!("{:.2} M/s", high / 1e6),
    }
}

/// Returns a time with three digits and its unit; a dash for one that was not measured.
pub(crate) fn time(us: f64) -> String {
    match us {
        us if us <= 0.0 => "-".to_owned(),
        us if us < 100.0 => format!("{us:.1} us"),
        us if us < 1e3 => format!("{us:.0} us"),
        us if us < 1e5 => format!("{:.2} ms", us / 1e3),
        us if us < 1e6 => format!("{:.0} ms", us / 1e3),
        us => format!("{:.2} s", us / 1e6),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_and_rates_have_units() {
        assert_eq!(
            [12.34, 123.4, 1_234.0, 123_400.0, 12_340_000.0].map(time),
            ["12.3 us", "123 us", "1.23 ms", "123 ms", "12.34 s"]
        );
        assert_eq!(time(0.0), "-");
        assert_eq!(
            [7.0, 12_340.0, 2_500_000.0].map(rate),
            ["7/s", "12.3 k/s", "2.50 M/s"]
        );
    }
}
