//! A session as one HTML page that needs nothing else: tiles, charts, tables, the machine, the command line. Charts are
//! inline SVG; there is no script.

use std::fmt::Write as _;

use super::chart::{Axis, Chart, Scale, Series};
use super::table::{compare, rate, time};
use super::{Phase, Row, Session, Subject, escape, machine};

const STYLE: &str = include_str!("report.css");

/// Returns the page of a session.
pub(crate) fn page(session: &Session) -> String {
    let mut out =
        String::from("<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\n");
    out.push_str("<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n");
    writeln!(
        out,
        "<title>ashlar bench</title>\n<style>\n{STYLE}</style></head>\n<body><main>"
    )
    .expect("a string takes all");
    writeln!(
        out,
        "<header><h1>ashlar <span>bench</span></h1><p>{}</p><p class=\"dim\">{}</p>{}</header>",
        escape(&session.workload),
        escape(&session.began),
        match session.is_ended_early {
            true => "<p class=\"bad\">ended early: what was measured is of the time until then</p>",
            false => "",
        }
    )
    .expect("a string takes all");
    out.push_str(&subjects(session));
    out.push_str(&medians(session));
    out.push_str(&charts(session));
    for subject in &session.subjects {
        out.push_str(&tables(subject));
    }
    out.push_str(&facts(session));
    out + "</main></body></html>\n"
}

/// The card of each server: what it is, how durable, its main numbers and the verdict.
fn subjects(session: &Session) -> String {
    let mut out = String::from("<section class=\"cards\">\n");
    for (n, subject) in session.subjects.iter().enumerate() {
        let durable = match subject.server.is_durable {
            Some(true) => "good",
            Some(false) => "bad",
            None => "dim",
        };
        writeln!(
            out,
            "<article class=\"card\"><h2><i class=\"key c{}\"></i>{}</h2><p class=\"dim\">{} at {}</p><p class=\"{durable}\">{}</p>",
            n % 6,
            escape(&subject.name),
            escape(&subject.server.version),
            escape(&subject.addr),
            escape(&subject.server.durability)
        )
        .expect("a string takes all");
        if let Some(phase) = subject.main_phase() {
            out.push_str(&tiles(phase));
        }
        if let Some(sweep) = &subject.sweep {
            writeln!(out, "<p class=\"verdict\">{}</p>", escape(&sweep.words))
                .expect("a string takes all");
        }
        out.push_str("</article>\n");
    }
    out + "</section>\n"
}

fn tiles(phase: &Phase) -> String {
    let response = &phase.all.response;
    let wrong = phase.wrong.sum();
    let tiles = [
        (
            rate(phase.per_second),
            phase
                .due_per_second
                .map_or("closed loop".to_owned(), |due| {
                    format!("of {} due", rate(due))
                }),
        ),
        (time(response.p50_us), "p50".to_owned()),
        (time(response.p99_us), "p99".to_owned()),
        (time(response.p999_us), "p99.9".to_owned()),
    ];
    let mut out = String::from("<div class=\"tiles\">");
    for (number, name) in tiles {
        write!(out, "<div><b>{number}</b><span>{name}</span></div>").expect("a string takes all");
    }
    out.push_str("</div>\n");
    let class = if phase.client_saturated || wrong > 0 {
        "bad"
    } else {
        "verdict"
    };
    let checked = match (phase.verified, wrong) {
        (0, _) => "no value was verified".to_owned(),
        (verified, 0) => format!("{verified} answers verified, none wrong"),
        (verified, wrong) => format!("{wrong} of {verified} verified answers were wrong"),
    };
    writeln!(
        out,
        "<p class=\"{class}\">{}; {checked}</p>",
        escape(&phase.verdict)
    )
    .expect("a string takes all");
    out
}

/// The servers beside each other, when they were measured in rounds.
fn medians(session: &Session) -> String {
    let Some(compared) = compare(&session.subjects) else {
        return String::new();
    };
    let mut out = format!(
        "<section><h3>Medians of {} rounds, and ratios to the first</h3>\n<table><tr><th></th>",
        compared.rounds
    );
    for name in compared.columns {
        write!(out, "<th>{name}</th><th></th>").expect("a string takes all");
    }
    out.push_str("</tr>\n");
    for (subject, cells) in compared.rows {
        write!(out, "<tr><th>{}</th>", escape(&subject.name)).expect("a string takes all");
        for (number, ratio) in cells {
            write!(out, "<td>{number}</td><td>{ratio:.2}</td>").expect("a string takes all");
        }
        out.push_str("</tr>\n");
    }
    out + "</table></section>\n"
}

/// All charts, each with every server in it; those without a line are left out.
fn charts(session: &Session) -> String {
    let percentiles = Chart {
        x: axis("percentile", Scale::Nines, |percent| format!("{percent} %")),
        y: latency(),
        series: lines(session, |phase| phase.all.response.curve.clone()),
        marks: Vec::new(),
    };
    let throughput = Chart {
        y: axis("operations per second", Scale::Linear, rate),
        ..course(session, |point| point.per_second)
    };
    let all = [
        ("Rate and latency (p99, and p50 dashed)", over_rate(session)),
        ("Latency by percentile", percentiles),
        ("Throughput over time", throughput),
        ("p99 over time", course(session, |point| point.p99_us)),
    ];
    let mut out = String::from("<section class=\"charts\">\n");
    for (title, chart) in all {
        if chart.series.iter().any(|series| series.points.len() > 1) {
            let (legend, svg) = (legend(&chart.series), chart.svg());
            writeln!(
                out,
                "<figure><figcaption>{title}{legend}</figcaption>{svg}</figure>"
            )
            .expect("a string takes all");
        }
    }
    out + "</section>\n"
}

fn axis(name: &str, scale: Scale, label: fn(f64) -> String) -> Axis {
    Axis {
        name: name.to_owned(),
        scale,
        label,
    }
}

fn latency() -> Axis {
    axis("latency from when it was due", Scale::Log, time)
}

/// Latency over the rate, with the knee of each server.
fn over_rate(session: &Session) -> Chart {
    let knees = session
        .subjects
        .iter()
        .filter_map(|subject| subject.sweep.as_ref()?.knee);
    Chart {
        x: axis("operations per second due", Scale::Linear, rate),
        y: latency(),
        series: sweeps(session),
        marks: knees
            .map(|knee| (knee.due, format!("knee {}", rate(knee.due))))
            .collect(),
    }
}

fn seconds(s: f64) -> String {
    let digits = usize::from((s - s.round()).abs() > 1e-6);
    format!("{s:.digits$}")
}

/// Something over time.
fn course(session: &Session, pick: fn(&super::Point) -> f64) -> Chart {
    let points = |phase: &Phase| {
        phase
            .course
            .iter()
            .map(|point| (point.at_s, pick(point)))
            .collect()
    };
    Chart {
        x: axis("seconds", Scale::Linear, seconds),
        y: latency(),
        series: lines(session, points),
        marks: Vec::new(),
    }
}

fn legend(series: &[Series]) -> String {
    let named = series.iter().filter(|series| !series.name.is_empty());
    named
        .map(|series| {
            format!(
                "<span><i class=\"key {}\"></i>{}</span>",
                series.class,
                escape(&series.name)
            )
        })
        .collect()
}

/// One line for each server's main phase.
fn lines(session: &Session, points: impl Fn(&Phase) -> Vec<(f64, f64)>) -> Vec<Series> {
    let phases = session.subjects.iter().enumerate();
    let phases = phases.filter_map(|(n, subject)| Some((n, subject, subject.main_phase()?)));
    let series = phases.map(|(n, subject, phase)| Series {
        name: subject.name.clone(),
        class: format!("c{}", n % 6),
        points: points(phase),
        is_dotted: false,
    });
    series.collect()
}

fn sweeps(session: &Session) -> Vec<Series> {
    let mut series = Vec::new();
    for (n, subject) in session.subjects.iter().enumerate() {
        let Some(sweep) = &subject.sweep else {
            continue;
        };
        let points = |pick: fn(&super::Sample) -> f64| {
            sweep
                .samples
                .iter()
                .map(|sample| (sample.due, pick(sample)))
                .collect()
        };
        series.push(Series {
            name: subject.name.clone(),
            class: format!("c{}", n % 6),
            points: points(|sample| sample.p99_us),
            is_dotted: true,
        });
        series.push(Series {
            name: String::new(),
            class: format!("c{} dashed", n % 6),
            points: points(|sample| sample.p50_us),
            is_dotted: false,
        });
    }
    series
}

fn tables(subject: &Subject) -> String {
    let mut out = format!("<section><h2>{}</h2>\n", escape(&subject.name));
    for phase in &subject.phases {
        let due = phase
            .due_per_second
            .map_or("closed loop".to_owned(), |due| format!("{} due", rate(due)));
        write!(
            out,
            "<h3>{}: {due}, {:.1} s, {} errors, {} late for the server, {} for the client, {} never sent</h3>\n<table><tr><th></th>",
            escape(&phase.what),
            phase.seconds,
            phase.errors,
            phase.late_for_server,
            phase.late_for_client,
            phase.unsent
        )
        .expect("a string takes all");
        for head in [
            "operations/s",
            "p50",
            "p90",
            "p99",
            "p99.9",
            "p99.99",
            "max",
            "service p50",
            "service p99",
        ] {
            write!(out, "<th>{head}</th>").expect("a string takes all");
        }
        out.push_str("</tr>\n");
        let all = (phase.kinds.len() != 1).then_some(&phase.all);
        phase
            .kinds
            .iter()
            .chain(all)
            .for_each(|row| out.push_str(&table_row(row)));
        out.push_str("</table>\n");
    }
    out + "</section>\n"
}

fn table_row(row: &Row) -> String {
    let (response, service) = (&row.response, &row.service);
    let numbers = [
        response.p50_us,
        response.p90_us,
        response.p99_us,
        response.p999_us,
        response.p9999_us,
        response.max_us,
        service.p50_us,
        service.p99_us,
    ];
    let cells: String = numbers
        .iter()
        .map(|us| format!("<td>{}</td>", time(*us)))
        .collect();
    format!(
        "<tr><th>{}</th><td>{:.0}</td>{cells}</tr>\n",
        row.name, row.per_second
    )
}

fn facts(session: &Session) -> String {
    let mut out = String::from(
        "<section><h2>Machine of the load, and command line</h2>\n<table class=\"facts\">\n",
    );
    for (name, fact) in machine::facts() {
        writeln!(out, "<tr><th>{name}</th><td>{}</td></tr>", escape(&fact))
            .expect("a string takes all");
    }
    writeln!(
        out,
        "</table>\n<pre>{}</pre></section>",
        escape(&session.command_line)
    )
    .expect("a string takes all");
    out
}
