//! The screen: how far the phase is, rate and latency over the last minutes, and each kind's last second. It ends with
//! `q` or Ctrl-C, and gives the terminal back as it was, whatever happens.

use std::io;
use std::time::Duration;

use ratatui::crossterm::event::{self, Event, KeyCode, KeyModifiers};
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::{Color, Modifier, Style};
use ratatui::symbols::Marker;
use ratatui::text::{Line, Span};
use ratatui::widgets::{Axis, Block, Chart, Dataset, Gauge, GraphType, Paragraph, Row, Table};
use ratatui::{DefaultTerminal, Frame};

use super::Title;
use crate::bench::engine::{Part, Second};
use crate::bench::report::table::{rate, time};
use crate::bench::tally::percentile_us;

/// Seconds that are drawn; older ones go.
const HISTORY_MAX: usize = 300;
/// Lines of the table that are there without any kind: head and frame.
const TABLE_LINES: u16 = 3;

/// What is on the screen.
#[derive(Debug, Default)]
struct Shown {
    title: Option<Title>,
    /// Operations per second, p50 and p99 in microseconds.
    history: Vec<[f64; 3]>,
    last: Option<Second>,
    share: f64,
    wrong: u64,
    errors: u64,
    late: [u64; 2],
}

/// The screen of a terminal.
#[derive(Debug)]
pub(crate) struct Screen {
    terminal: DefaultTerminal,
    shown: Shown,
}

impl Screen {
    /// Takes the terminal.
    pub(crate) fn open() -> io::Result<Self> {
        Ok(Self {
            terminal: ratatui::try_init()?,
            shown: Shown::default(),
        })
    }

    /// Begins to show a phase.
    pub(crate) fn begin(&mut self, title: Title) {
        self.shown = Shown {
            title: Some(title),
            ..Shown::default()
        };
    }

    /// Takes a second in.
    pub(crate) fn note(&mut self, second: &Second) {
        self.shown.note(second);
    }

    /// Draws; says whether the user wants to end.
    pub(crate) fn draw(&mut self, share: f64) -> bool {
        self.shown.share = share.clamp(0.0, 1.0);
        // A terminal that is gone is noticed by its signal.
        let _ = self.terminal.draw(|frame| self.shown.draw(frame));
        wants_end()
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        ratatui::restore();
    }
}

fn wants_end() -> bool {
    let mut wants = false;
    while event::poll(Duration::ZERO).unwrap_or(false) {
        if let Ok(Event::Key(key)) = event::read() {
            let control = key.modifiers.contains(KeyModifiers::CONTROL);
            wants |= key.code == KeyCode::Char('q') || control && key.code == KeyCode::Char('c');
        }
    }
    wants
}

impl Shown {
    #[expect(clippy::cast_precision_loss, reason = "for people")]
    fn note(&mut self, second: &Second) {
        let response = second.tally.response();
        let per_second = second.tally.done() as f64 / second.length.as_secs_f64().max(1e-9);
        if self.history.len() == HISTORY_MAX {
            self.history.remove(0);
        }
        let us = |percent| percentile_us(&response, percent);
        // While it warms up no latency is kept.
        if second.part != Part::Drain {
            self.history.push([per_second, us(50.0), us(99.0)]);
        }
        self.wrong += second.tally.wrong.sum();
        self.errors += second.tally.errors();
        self.late[0] += second.tally.late.for_server;
        self.late[1] += second.tally.late.for_client;
        self.last = Some(second.clone());
    }

    fn draw(&self, frame: &mut Frame<'_>) {
        let kinds = self
            .last
            .as_ref()
            .map_or(0, |last| last.tally.kinds().count());
        let lines = TABLE_LINES + u16::try_from(kinds).unwrap_or(8);
        let parts = [
            Constraint::Length(2),
            Constraint::Length(1),
            Constraint::Min(8),
            Constraint::Length(lines),
            Constraint::Length(2),
        ];
        let [head, gauge, charts, table, foot] = Layout::vertical(parts).areas(frame.area());
        frame.render_widget(self.head(), head);
        let bar = Gauge::default().gauge_style(Color::Cyan).ratio(self.share);
        frame.render_widget(bar, gauge);
        let halves = [Constraint::Percentage(50), Constraint::Percentage(50)];
        let [left, right] = Layout::horizontal(halves).areas(charts);
        self.draw_chart(
            frame,
            left,
            ("operations per second", rate),
            &[(0, "rate", Color::Cyan)],
        );
        let latencies = [(1, "p50", Color::Green), (2, "p99", Color::Yellow)];
        self.draw_chart(
            frame,
            right,
            ("latency from when it was due", time),
            &latencies,
        );
        frame.render_widget(self.table(), table);
        frame.render_widget(self.foot(), foot);
    }

    fn head(&self) -> Paragraph<'_> {
        let Some(title) = &self.title else {
            return Paragraph::default();
        };
        let bold = Style::default().add_modifier(Modifier::BOLD);
        let first = Line::from(vec![
            Span::styled(
                format!("ashlar bench  {}  ", title.what),
                bold.fg(Color::Cyan),
            ),
            Span::raw(title.server.as_str()),
        ]);
        Paragraph::new(vec![first, Line::raw(title.workload.as_str())])
    }

    #[expect(clippy::cast_precision_loss, reason = "for people")]
    fn draw_chart(
        &self,
        frame: &mut Frame<'_>,
        area: Rect,
        (name, label): (&str, fn(f64) -> String),
        series: &[(usize, &str, Color)],
    ) {
        let points = |column: usize| {
            let points = self.history.iter().enumerate();
            // A second without a latency is no fast one; one without operations is told.
            points
                .map(|(n, row)| (n as f64, row[column]))
                .filter(|(_, y)| column == 0 || *y > 0.0)
                .collect::<Vec<_>>()
        };
        let columns: Vec<Vec<(f64, f64)>> =
            series.iter().map(|(column, ..)| points(*column)).collect();
        let highest = columns
            .iter()
            .flatten()
            .map(|(_, y)| *y)
            .fold(1.0, f64::max)
            * 1.1;
        let lines = columns
            .iter()
            .zip(series)
            .map(|(points, (_, name, colour))| {
                let line = Dataset::default()
                    .name(*name)
                    .marker(Marker::Braille)
                    .graph_type(GraphType::Line);
                line.style(*colour).data(points)
            });
        let width = (self.history.len().max(11) - 1) as f64;
        let labels = ["0".to_owned(), label(highest / 2.0), label(highest)];
        let chart = Chart::new(lines.collect())
            .block(Block::bordered().title(format!(" {name} ")))
            .x_axis(Axis::default().bounds([0.0, width]))
            .y_axis(
                Axis::default()
                    .bounds([0.0, highest])
                    .labels(labels)
                    .style(Color::Gray),
            );
        frame.render_widget(chart, area);
    }

    #[expect(clippy::cast_precision_loss, reason = "for people")]
    fn table(&self) -> Table<'_> {
        let mut rows = Vec::new();
        if let Some(last) = &self.last {
            for (kind, of) in last.tally.kinds() {
                let us = |percent| time(percentile_us(&of.response, percent));
                let per_second = of.done as f64 / last.length.as_secs_f64().max(1e-9);
                let mut cells = vec![kind.name().to_owned(), rate(per_second)];
                cells.extend([50.0, 90.0, 99.0, 99.9, 100.0].map(us));
                cells.push(of.errors.to_string());
                rows.push(Row::new(cells));
            }
        }
        let heads = [
            "last second",
            "rate",
            "p50",
            "p90",
            "p99",
            "p99.9",
            "max",
            "errors",
        ];
        let bold = Style::default().add_modifier(Modifier::BOLD);
        Table::new(rows, [Constraint::Length(12); 8])
            .header(Row::new(heads).style(bold))
            .block(Block::bordered())
    }

    fn foot(&self) -> Paragraph<'_> {
        let in_flight = self.last.as_ref().map_or(0, |last| last.in_flight);
        let counts = format!(
            "{in_flight} in flight, {} errors, {} sent late for the server, {} for this client   ",
            self.errors, self.late[0], self.late[1]
        );
        let wrong = match self.wrong {
            0 => Span::styled("no wrong answer", Color::Green),
            wrong => Span::styled(
                format!("{wrong} WRONG ANSWERS"),
                Style::default().fg(Color::White).bg(Color::Red),
            ),
        };
        let keys = Line::styled(
            "q or Ctrl-C ends it early, with the summary",
            Color::DarkGray,
        );
        Paragraph::new(vec![Line::from(vec![Span::raw(counts), wrong]), keys])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::mix::Kind;
    use crate::bench::tally::Tally;
    use ratatui::Terminal;
    use ratatui::backend::TestBackend;

    fn second(done: u64) -> Second {
        let mut tally = Tally::default();
        tally.record(
            Kind::Get,
            Duration::from_micros(123),
            Duration::from_micros(100),
        );
        tally.of_mut(Kind::Get).done = done;
        Second {
            number: 0,
            part: Part::Measured,
            until: Duration::from_secs(1),
            length: Duration::from_secs(1),
            tally,
            in_flight: 7,
        }
    }

    fn drawn(shown: &Shown, (width, height): (u16, u16)) -> String {
        let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
        terminal.draw(|frame| shown.draw(frame)).unwrap();
        terminal.backend().to_string()
    }

    #[test]
    fn the_screen_shows_what_was_told() {
        let mut shown = Shown {
            title: Some(Title {
                what: "run".to_owned(),
                server: "redis 7".to_owned(),
                workload: "get 100 %".to_owned(),
            }),
            ..Shown::default()
        };
        (0..400).for_each(|n| shown.note(&second(10_000 + n)));
        assert_eq!(shown.history.len(), HISTORY_MAX);
        let text = drawn(&shown, (120, 30));
        for part in [
            "redis 7",
            "get 100 %",
            "10.4 k/s",
            "123 us",
            "7 in flight",
            "no wrong answer",
        ] {
            assert!(text.contains(part), "{part}: {text}");
        }
        shown.wrong = 2;
        assert!(drawn(&shown, (120, 30)).contains("2 WRONG ANSWERS"));
    }

    #[test]
    fn a_terminal_of_any_size_is_drawn_on() {
        let mut shown = Shown::default();
        drawn(&shown, (1, 1));
        shown.note(&second(0));
        for size in [(1, 1), (20, 5), (300, 100)] {
            drawn(&shown, size);
        }
    }
}
