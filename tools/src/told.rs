//! What a node tells on its standard error, written by a thread of its own: a shard that has something to tell never
//! waits for whoever reads it.
//!
//! Invariant: at most [`LINES_MAX`] lines wait; what comes beyond that is counted, and told once there is room.

use std::io::{self, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::Builder;
use std::time::Duration;

use tracing_subscriber::fmt::MakeWriter;

/// Lines that wait to be written.
const LINES_MAX: usize = 1024;
/// How long the end of the process waits for lines to be written.
const PATIENCE: Duration = Duration::from_secs(1);

enum Told {
    Line(Vec<u8>),
    /// All before it is to be written; then this is said.
    Flush(SyncSender<()>),
}

/// Takes lines, from any thread.
#[derive(Clone)]
pub(crate) struct Teller {
    lines: SyncSender<Told>,
    lost: Arc<AtomicU64>,
}

impl Teller {
    /// Starts the thread that writes.
    ///
    /// # Errors
    /// There can be no more threads.
    pub(crate) fn start() -> io::Result<Self> {
        let (lines, written) = sync_channel(LINES_MAX);
        let lost = Arc::new(AtomicU64::new(0));
        let teller = Self {
            lines,
            lost: Arc::clone(&lost),
        };
        let writer = Builder::new().name("teller".to_owned());
        writer.spawn(move || write_all(&written, &lost, &mut io::stderr()))?;
        Ok(teller)
    }

    /// Waits until what was told is written, for a second at most; not at all when so much waits that nobody seems to
    /// read it.
    pub(crate) fn finish(&self) {
        let (done, wait) = sync_channel(1);
        if self.lines.try_send(Told::Flush(done)).is_ok() {
            let _ = wait.recv_timeout(PATIENCE);
        }
    }
}

/// Writes lines until nobody tells any more. An error has no cure here: there is nobody else to tell it to.
fn write_all(lines: &Receiver<Told>, lost: &AtomicU64, out: &mut impl Write) {
    for told in lines {
        match told {
            Told::Line(line) => drop(out.write_all(&line)),
            Told::Flush(done) => drop(done.send(())),
        }
        match lost.swap(0, Ordering::Relaxed) {
            0 => {}
            count => drop(writeln!(
                out,
                "{count} lines were not told: too many at once"
            )),
        }
    }
}

/// One line while it is made.
pub(crate) struct Line<'a> {
    bytes: Vec<u8>,
    teller: &'a Teller,
}

impl Write for Line<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.bytes.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Drop for Line<'_> {
    fn drop(&mut self) {
        let line = std::mem::take(&mut self.bytes);
        if !line.is_empty() && self.teller.lines.try_send(Told::Line(line)).is_err() {
            self.teller.lost.fetch_add(1, Ordering::Relaxed);
        }
    }
}

impl<'a> MakeWriter<'a> for Teller {
    type Writer = Line<'a>;

    fn make_writer(&'a self) -> Line<'a> {
        Line {
            bytes: Vec::new(),
            teller: self,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_does_not_fit_is_counted_and_told() {
        let (lines, written) = sync_channel(2);
        let lost = Arc::new(AtomicU64::new(0));
        let teller = Teller {
            lines,
            lost: Arc::clone(&lost),
        };
        for text in ["one\n", "two\n", "three\n", "four\n", ""] {
            teller.make_writer().write_all(text.as_bytes()).unwrap();
        }
        drop(teller);
        let mut out = Vec::new();
        write_all(&written, &lost, &mut out);
        let text = String::from_utf8(out).unwrap();
        assert_eq!(text, "one\n2 lines were not told: too many at once\ntwo\n");
    }
}
