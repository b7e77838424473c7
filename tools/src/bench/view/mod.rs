//! What is shown while a phase runs: a screen on a terminal, a line each second otherwise. Not what remains of it.

mod lines;
mod screen;

use std::io::IsTerminal as _;

use super::engine::Second;
use screen::Screen;

/// What a phase is shown as.
#[derive(Clone, Debug)]
pub(crate) struct Title {
    /// Load, run, check.
    pub(crate) what: String,
    /// The server and how durable it is.
    pub(crate) server: String,
    pub(crate) workload: String,
}

/// Where things are shown.
#[derive(Debug)]
pub(crate) enum View {
    /// The whole terminal.
    Screen(Box<Screen>),
    /// Lines on standard error.
    Lines,
}

impl View {
    /// Opens the view: a screen if standard output is a terminal and lines are not wanted.
    pub(crate) fn open(wants_lines: bool) -> Self {
        if wants_lines || !std::io::stdout().is_terminal() || !std::io::stdin().is_terminal() {
            return Self::Lines;
        }
        // A terminal that cannot be drawn on still takes lines.
        Screen::open().map_or(Self::Lines, |screen| Self::Screen(Box::new(screen)))
    }

    /// Begins to show a phase.
    pub(crate) fn begin(&mut self, title: &Title) {
        if let Self::Screen(screen) = self {
            screen.begin(title.clone());
        }
    }

    /// Shows a second.
    pub(crate) fn show(&mut self, title: &Title, second: &Second) {
        match self {
            Self::Screen(screen) => screen.note(second),
            Self::Lines if lines::is_of_interest(second) => {
                eprintln!("{}", lines::line(&title.what, second));
            }
            Self::Lines => {}
        }
    }

    /// Draws anew with how far the phase is, from 0 to 1; says whether the user wants to end it.
    pub(crate) fn draw(&mut self, share: f64) -> bool {
        match self {
            Self::Screen(screen) => screen.draw(share),
            Self::Lines => false,
        }
    }
}
