//! `ashlar top`: what a running node does, once a second on the terminal, or once as text. It asks over the Redis
//! protocol and changes nothing.

mod page;
mod reading;

use std::io::IsTerminal as _;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use ratatui::crossterm::event::{self, Event, KeyCode, KeyModifiers};
use ratatui::layout::{Constraint, Layout};
use ratatui::style::{Color, Modifier, Style};
use ratatui::text::{Line, Span};
use ratatui::widgets::{Block, Paragraph, Sparkline};
use ratatui::{DefaultTerminal, Frame};

use crate::asked::Node;
use crate::status::partition_line;
use page::Section;
use reading::Reading;

/// Rates that are drawn; older ones go.
const HISTORY_MAX: usize = 300;

/// Flags of `ashlar top`.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Args {
    /// Address and port of a node's clients
    #[arg(long, value_name = "ADDR:PORT", default_value = "127.0.0.1:6379")]
    addr: SocketAddr,
    /// Print it once as text, measured over one interval, and end
    #[arg(long)]
    once: bool,
    /// Seconds between two looks
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..=3600))]
    interval: u64,
}

/// Shows a node until the user has seen enough.
///
/// # Errors
/// One line: the node does not answer, or there is no terminal to draw on.
pub(crate) fn run(args: &Args) -> Result<(), String> {
    let interval = Duration::from_secs(args.interval);
    let (mut node, start) = (Node::connect(args.addr)?, Instant::now());
    let before = read(&mut node, start)?;
    if args.once {
        std::thread::sleep(interval);
        print!(
            "{}",
            page::text(&page::page(&before, &read(&mut node, start)?))
        );
        return Ok(());
    }
    if !std::io::stdout().is_terminal() || !std::io::stdin().is_terminal() {
        return Err("top draws on a terminal; without one, give --once".to_owned());
    }
    let mut terminal =
        ratatui::try_init().map_err(|error| format!("cannot draw on this terminal: {error}"))?;
    let shown = show(&mut terminal, (&mut node, before), (start, interval));
    ratatui::restore();
    shown
}

fn show(
    terminal: &mut DefaultTerminal,
    (node, mut before): (&mut Node, Reading),
    (start, interval): (Instant, Duration),
) -> Result<(), String> {
    let mut rates = Vec::new();
    let mut sections = Vec::new();
    loop {
        let drawn = terminal.draw(|frame| draw(frame, &sections, &rates));
        drawn.map_err(|error| format!("cannot draw on this terminal: {error}"))?;
        if wants_end(interval) {
            return Ok(());
        }
        let now = read(node, start)?;
        if rates.len() == HISTORY_MAX {
            rates.remove(0);
        }
        rates.push(whole(now.per_s(&before, "total_commands_processed")));
        sections = page::page(&before, &now);
        before = now;
    }
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a rate, not negative"
)]
fn whole(rate: f64) -> u64 {
    rate as u64
}

/// Asks a node everything that is shown.
fn read(node: &mut Node, start: Instant) -> Result<Reading, String> {
    let info = node.ask(&["INFO", "everything"])?.concat();
    let mut reading = Reading::new(&info, start.elapsed().as_secs_f64());
    // A server that is no cluster, or none of ours, does not tell.
    let partitions = node.ask(&["CLUSTER", "PARTITIONS"]).unwrap_or_default();
    reading.partitions = partitions.iter().map(|line| partition_line(line)).collect();
    if !reading.partitions.is_empty() {
        let nodes = node.ask(&["CLUSTER", "NODES"]).unwrap_or_default();
        reading.nodes = nodes
            .iter()
            .flat_map(|text| text.lines())
            .map(str::to_owned)
            .collect();
    }
    Ok(reading)
}

/// Waits for the time of the next look; says whether the user wants to end.
fn wants_end(wait: Duration) -> bool {
    let until = Instant::now() + wait;
    loop {
        let left = until.saturating_duration_since(Instant::now());
        match event::poll(left) {
            Ok(true) => {}
            Ok(false) => return false,
            // The terminal is gone.
            Err(_) => return true,
        }
        if let Ok(Event::Key(key)) = event::read() {
            let control = key.modifiers.contains(KeyModifiers::CONTROL);
            if key.code == KeyCode::Char('q') || control && key.code == KeyCode::Char('c') {
                return true;
            }
        }
    }
}

fn draw(frame: &mut Frame<'_>, sections: &[Section], rates: &[u64]) {
    let parts = [
        Constraint::Length(6),
        Constraint::Min(1),
        Constraint::Length(1),
    ];
    let [chart, body, foot] = Layout::vertical(parts).areas(frame.area());
    let newest = &rates[rates.len().saturating_sub(chart.width.into())..];
    let line = Sparkline::default().data(newest).style(Color::Cyan);
    frame.render_widget(
        line.block(Block::bordered().title(" commands per second ")),
        chart,
    );
    let bold = Style::default()
        .fg(Color::Cyan)
        .add_modifier(Modifier::BOLD);
    let mut lines = Vec::new();
    for section in sections {
        lines.push(Line::from(Span::styled(section.title, bold)));
        lines.extend(
            section
                .lines
                .iter()
                .map(|line| Line::raw(format!("  {line}"))),
        );
    }
    frame.render_widget(Paragraph::new(lines), body);
    frame.render_widget(Line::styled("q ends", Color::DarkGray), foot);
}
