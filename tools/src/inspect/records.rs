//! The list of every frame of a log, and of the entries that frames make up.

use std::io::{self, Write};

use ashlar_io::wal::format::{FRAME_BYTES, Frames, HEADER_BYTES, Header, Kind};
use ashlar_partition::command::{Command, Commands};
use ashlar_partition::lsm::edit::Edit;

use super::segment::Segment;
use super::show;

/// Prints batch by batch, and puts records together that were cut in parts.
#[derive(Debug)]
pub(crate) struct Lister {
    /// Frames that may still be printed.
    left: u64,
    generation: u32,
    record: Vec<u8>,
    assembling: bool,
}

impl Lister {
    /// Makes a lister that prints at most `limit` frames.
    pub(crate) fn new(limit: u64) -> Self {
        Self {
            left: limit,
            generation: 0,
            record: Vec::new(),
            assembling: false,
        }
    }

    /// Prints one batch.
    pub(crate) fn batch(
        &mut self,
        (segment, header, payload): (&Segment, &Header, &[u8]),
        out: &mut impl Write,
    ) -> io::Result<()> {
        if self.left == 0 {
            return Ok(());
        }
        let Header {
            position,
            generation,
            frames,
            length,
            durable,
            start,
            sealed_us,
            ..
        } = header;
        let (file, offset) = (segment.name(), position.0 % segment.len().max(1));
        writeln!(
            out,
            "batch {} at {file}:{offset}: generation {generation}, {frames} frames, {length} bytes, durable {}, \
             start {}, sealed_us {sealed_us}",
            position.0, durable.0, start.0
        )?;
        // A record left unfinished by an earlier life was never acknowledged.
        self.assembling &= *generation == self.generation;
        self.generation = *generation;
        let mut at = position.0 + HEADER_BYTES as u64;
        for (kind, body) in Frames(payload) {
            if self.left == 0 {
                return writeln!(out, "... more frames; --limit ends the list here");
            }
            self.left -= 1;
            writeln!(
                out,
                "  frame {at}: {}, {} bytes",
                kind_name(kind),
                body.len()
            )?;
            at += (FRAME_BYTES + body.len()) as u64;
            self.frame(kind, body, out)?;
        }
        Ok(())
    }

    fn frame(&mut self, kind: Kind, body: &[u8], out: &mut impl Write) -> io::Result<()> {
        match kind {
            Kind::Whole => return entry(body, out),
            Kind::First => {
                self.record.clear();
                self.assembling = true;
            }
            Kind::Middle | Kind::Last => {}
        }
        if !self.assembling {
            return writeln!(
                out,
                "    part of a record that begins before the log's start"
            );
        }
        self.record.extend_from_slice(body);
        if kind == Kind::Last {
            self.assembling = false;
            return entry(&std::mem::take(&mut self.record), out);
        }
        Ok(())
    }
}

fn kind_name(kind: Kind) -> &'static str {
    match kind {
        Kind::Whole => "whole",
        Kind::First => "first",
        Kind::Middle => "middle",
        Kind::Last => "last",
    }
}

/// Prints a record as the entry or the edit that it is.
fn entry(record: &[u8], out: &mut impl Write) -> io::Result<()> {
    if Edit::is_edit(record) {
        return edit(record, out);
    }
    let (header, mut commands) = match Commands::of(record) {
        Ok(decoded) => decoded,
        Err(error) => return writeln!(out, "    not an entry: {error}"),
    };
    writeln!(
        out,
        "    entry: partition {}, term {}, index {}, timestamp {}, {} commands",
        header.partition, header.term.0, header.index, header.timestamp.0, header.commands
    )?;
    let mut count = 0;
    // Each timestamp is the one before and 1; a damaged first one could not be added to.
    let reckons = header
        .timestamp
        .0
        .checked_add(record.len() as u64)
        .is_some();
    while let Some((timestamp, command)) = reckons.then(|| commands.next()).flatten() {
        count += 1;
        writeln!(out, "      {}: {}", timestamp.0, describe(&command))?;
    }
    if !commands.rest().is_empty() || count != header.commands {
        let rest = commands.rest().len();
        writeln!(
            out,
            "      {count} commands understood of {}, {rest} bytes left",
            header.commands
        )?;
    }
    Ok(())
}

/// Prints a change of a partition's tables.
fn edit(record: &[u8], out: &mut impl Write) -> io::Result<()> {
    let edit = match Edit::decode(record) {
        Ok(edit) => edit,
        Err(error) => return writeln!(out, "    not an edit: {error}"),
    };
    writeln!(
        out,
        "    edit: partition {}, number {}, low-water mark {}",
        edit.partition, edit.sequence, edit.low_water
    )?;
    if let Some(flushed) = edit.flushed {
        writeln!(out, "      entries up to {} are in tables", flushed.index)?;
    }
    for add in &edit.add_tables {
        let (meta, run) = (&add.meta, add.run);
        let (number, keys, bytes) = (meta.number, meta.keys, meta.file_bytes);
        writeln!(
            out,
            "      run {run} gets table {number}: {keys} keys, {bytes} bytes"
        )?;
    }
    for number in &edit.remove_tables {
        writeln!(out, "      table {number} goes")?;
    }
    let values = (edit.add_values.len(), edit.remove_values.len());
    let ranges = (edit.add_ranges.len(), edit.remove_ranges.len());
    if values != (0, 0) || ranges != (0, 0) {
        writeln!(
            out,
            "      value files: {} come, {} go; range deletions: {} come, {} go",
            values.0, values.1, ranges.0, ranges.1
        )?;
    }
    Ok(())
}

fn describe(command: &Command<'_>) -> String {
    let until = |at: Option<u64>| at.map_or(String::new(), |at| format!(", expires at {at} ms"));
    match *command {
        Command::Put {
            key,
            is_root,
            expire_at_ms,
            value,
        } => {
            format!(
                "put {}{}, {} bytes{}",
                if is_root { "root " } else { "" },
                show::key(key),
                value.len(),
                until(expire_at_ms)
            )
        }
        Command::Delete { key } => format!("delete {}", show::key(key)),
        Command::Clear {
            database: Some(database),
        } => format!("clear database {database}"),
        Command::Clear { database: None } => "clear all databases".to_owned(),
        Command::DeleteRange { start, end } => {
            format!("delete from {} up to {}", show::key(start), show::key(end))
        }
    }
}
