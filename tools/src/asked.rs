//! A running node that is asked something over the Redis protocol, a command at a time. Whatever it answers
//! is taken in or said to be wrong.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

/// How long a node may take to answer.
const PATIENCE: Duration = Duration::from_secs(10);
/// Largest answer that is taken, in bytes.
const ANSWER_BYTES_MAX: usize = 16 << 20;

/// A connection to a node.
pub(crate) struct Node {
    addr: SocketAddr,
    stream: TcpStream,
    received: Vec<u8>,
    is_gone: bool,
}

impl Node {
    /// Connects to a node.
    pub(crate) fn connect(addr: SocketAddr) -> Result<Self, String> {
        Self::connect_for(addr, "--addr")
    }

    /// Connects to a node whose address a flag has given.
    pub(crate) fn connect_for(addr: SocketAddr, flag: &str) -> Result<Self, String> {
        let stream = TcpStream::connect_timeout(&addr, PATIENCE);
        let stream = stream.map_err(|error| {
            format!("no node answers on {addr}: {error}; give its address with {flag}")
        })?;
        let set = stream.set_read_timeout(Some(PATIENCE));
        set.map_err(|error| format!("{addr}: {error}"))?;
        Ok(Self {
            addr,
            stream,
            received: Vec::new(),
            is_gone: false,
        })
    }

    /// Asks a command; returns the texts of its reply, one for a bulk string, each of an array.
    pub(crate) fn ask(&mut self, words: &[&str]) -> Result<Vec<String>, String> {
        let mut command = format!("*{}\r\n", words.len());
        for word in words {
            command.push_str(&format!("${}\r\n{word}\r\n", word.len()));
        }
        let sent = self.stream.write_all(command.as_bytes());
        sent.map_err(|error| {
            self.is_gone = true;
            format!("{}: {error}", self.addr)
        })?;
        loop {
            if let Some((texts, used)) = texts_of(&self.received)? {
                self.received.drain(..used);
                return Ok(texts);
            }
            self.receive()?;
        }
    }

    /// Tells whether the node has ended the connection.
    pub(crate) fn is_gone(&self) -> bool {
        self.is_gone
    }

    fn receive(&mut self) -> Result<(), String> {
        let mut piece = [0; 16 << 10];
        let count = self.stream.read(&mut piece);
        let count = count.map_err(|error| {
            self.is_gone = error.kind() == ErrorKind::ConnectionReset;
            format!("{} does not answer: {error}", self.addr)
        })?;
        self.is_gone = count == 0;
        self.received.extend_from_slice(&piece[..count]);
        if count == 0 || self.received.len() > ANSWER_BYTES_MAX {
            return Err(format!("{} has ended the connection", self.addr));
        }
        Ok(())
    }
}

/// Returns the texts of a reply and its length, once it is whole.
fn texts_of(bytes: &[u8]) -> Result<Option<(Vec<String>, usize)>, String> {
    let Some((line, mut used)) = line_at(bytes, 0) else {
        return Ok(None);
    };
    let (kind, rest) = line.split_at_checked(1).ok_or("an empty reply")?;
    let count = match kind {
        "$" => return Ok(bulk_at(bytes, 0)?.map(|(text, used)| (vec![text], used))),
        "*" => rest
            .parse::<usize>()
            .map_err(|_| "an array without a length")?,
        "-" => return Err(rest.strip_prefix("ERR ").unwrap_or(rest).to_owned()),
        _ => return Ok(Some((vec![rest.to_owned()], used))),
    };
    let mut texts = Vec::new();
    for _ in 0..count {
        let Some((text, end)) = bulk_at(bytes, used)? else {
            return Ok(None);
        };
        texts.push(text);
        used = end;
    }
    Ok(Some((texts, used)))
}

/// Returns the bulk string at `at` and where it ends.
fn bulk_at(bytes: &[u8], at: usize) -> Result<Option<(String, usize)>, String> {
    let Some((line, from)) = line_at(bytes, at) else {
        return Ok(None);
    };
    let length = line
        .strip_prefix('$')
        .and_then(|length| length.parse::<usize>().ok());
    let length = length.ok_or_else(|| format!("a reply that is no text: {line}"))?;
    let Some(text) = bytes.get(from..from + length) else {
        return Ok(None);
    };
    let end = from + length + 2;
    let whole = bytes.len() >= end;
    Ok(whole.then(|| (String::from_utf8_lossy(text).into_owned(), end)))
}

/// Returns the line at `at` without its end, and where the next begins.
fn line_at(bytes: &[u8], at: usize) -> Option<(String, usize)> {
    let rest = bytes.get(at..)?;
    let end = rest.windows(2).position(|pair| pair == b"\r\n")?;
    let line = String::from_utf8_lossy(&rest[..end]).into_owned();
    Some((line, at + end + 2))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn replies_are_read_once_they_are_whole() {
        let reply = b"*2\r\n$3\r\nabc\r\n$0\r\n\r\n+OK\r\n";
        for cut in 0..19 {
            assert_eq!(texts_of(&reply[..cut]), Ok(None), "{cut} bytes");
        }
        let texts = vec!["abc".to_owned(), String::new()];
        assert_eq!(texts_of(reply), Ok(Some((texts, 19))));
        assert_eq!(
            texts_of(b"$1\r\nx\r\n"),
            Ok(Some((vec!["x".to_owned()], 7)))
        );
        assert_eq!(texts_of(b"-ERR no\r\n"), Err("no".to_owned()));
        assert_eq!(texts_of(b"-BUSY no\r\n"), Err("BUSY no".to_owned()));
        assert_eq!(texts_of(b"*0\r\n"), Ok(Some((Vec::new(), 4))));
        assert!(texts_of(b"*1\r\n:5\r\n").is_err());
    }
}
