//! The least of a RESP2 reader that a load generator needs: it tells replies apart and steps over their bodies.
//! Not a decoder: the bytes of a value are counted, never kept. The server's decoder is in the node.
//!
//! Invariant: no body is buffered, so memory does not depend on the size of the values.

/// Longest line that is waited for, in bytes; more without an end of line is not RESP.
const LINE_BYTES_MAX: usize = 64 << 10;

/// One reply.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Reply {
    /// A simple string, as `+OK`.
    Status,
    /// An error with its text.
    Error(String),
    /// A value that was there.
    Bulk,
    /// A value that was not there.
    Null,
    /// A number.
    Integer,
}

/// What is expected next.
#[derive(Debug, Default)]
enum State {
    /// A line.
    #[default]
    Line,
    /// So many bytes of a body and its end of line.
    Body(usize),
}

/// Reads replies from bytes that arrive in pieces.
#[derive(Debug, Default)]
pub(crate) struct Replies {
    state: State,
    /// The beginning of a line whose end has not arrived.
    line: Vec<u8>,
}

impl Replies {
    /// Takes the next reply from the front of `bytes`; `None` when it has not arrived whole, and `bytes` is then empty.
    ///
    /// # Errors
    /// The bytes are not RESP2, or a reply that no `GET` or `SET` has; the connection is of no more use.
    pub(crate) fn next(&mut self, bytes: &mut &[u8]) -> Result<Option<Reply>, String> {
        if let State::Line = self.state {
            let Some(end) = bytes.iter().position(|byte| *byte == b'\n') else {
                return self.keep(bytes);
            };
            let (head, rest) = bytes.split_at(end);
            *bytes = &rest[1..];
            let reply = if self.line.is_empty() {
                parse_line(head)?
            } else {
                self.line.extend_from_slice(head);
                let reply = parse_line(&self.line)?;
                self.line.clear();
                reply
            };
            match reply {
                Line::Whole(reply) => return Ok(Some(reply)),
                Line::Bulk(count) => self.state = State::Body(count + 2),
            }
        }
        Ok(self.skip_body(bytes))
    }

    fn keep(&mut self, bytes: &mut &[u8]) -> Result<Option<Reply>, String> {
        self.line.extend_from_slice(bytes);
        *bytes = &[];
        if self.line.len() > LINE_BYTES_MAX {
            return Err("the server sends what is not RESP: a line without end".to_owned());
        }
        Ok(None)
    }

    fn skip_body(&mut self, bytes: &mut &[u8]) -> Option<Reply> {
        let State::Body(left) = self.state else {
            return None;
        };
        let step = left.min(bytes.len());
        *bytes = &bytes[step..];
        if step < left {
            self.state = State::Body(left - step);
            return None;
        }
        self.state = State::Line;
        Some(Reply::Bulk)
    }
}

/// What a line says.
enum Line {
    Whole(Reply),
    Bulk(usize),
}

fn parse_line(line: &[u8]) -> Result<Line, String> {
    let line = line.strip_suffix(b"\r").unwrap_or(line);
    let text = || String::from_utf8_lossy(line.get(1..).unwrap_or_default()).into_owned();
    Ok(match line {
        [b'+', ..] => Line::Whole(Reply::Status),
        [b':', ..] => Line::Whole(Reply::Integer),
        [b'-', ..] => Line::Whole(Reply::Error(text())),
        b"$-1" => Line::Whole(Reply::Null),
        [b'$', ..] => match text().parse::<u32>() {
            Ok(count) => Line::Bulk(count as usize),
            Err(_) => return Err(not_resp(line)),
        },
        _ => return Err(not_resp(line)),
    })
}

fn not_resp(line: &[u8]) -> String {
    let shown = &line[..line.len().min(40)];
    format!(
        "the server sends what is no RESP2 reply to GET or SET: {:?}",
        String::from_utf8_lossy(shown)
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read_all(pieces: &[&[u8]]) -> Result<Vec<Reply>, String> {
        let mut replies = Replies::default();
        let mut found = Vec::new();
        for piece in pieces {
            let mut bytes = *piece;
            while let Some(reply) = replies.next(&mut bytes)? {
                found.push(reply);
            }
            assert!(bytes.is_empty());
        }
        Ok(found)
    }

    #[test]
    fn replies_are_the_same_wherever_the_bytes_are_cut() {
        let stream = b"+OK\r\n$5\r\nhe\nlo\r\n$-1\r\n-ERR no\r\n$0\r\n\r\n:12\r\n+OK\r\n";
        let error = Reply::Error("ERR no".to_owned());
        let all = vec![
            Reply::Status,
            Reply::Bulk,
            Reply::Null,
            error,
            Reply::Bulk,
            Reply::Integer,
            Reply::Status,
        ];
        assert_eq!(read_all(&[stream]).unwrap(), all);
        for first in 0..=stream.len() {
            for second in first..=stream.len() {
                let pieces = [&stream[..first], &stream[first..second], &stream[second..]];
                assert_eq!(
                    read_all(&pieces).unwrap(),
                    all,
                    "cut at {first} and {second}"
                );
            }
        }
    }

    #[test]
    fn what_is_not_resp_is_refused() {
        assert!(
            read_all(&[b"HTTP/1.1 400 Bad Request\r\n"])
                .unwrap_err()
                .contains("HTTP/1.1")
        );
        assert!(read_all(&[b"$-7\r\n"]).is_err());
        assert!(read_all(&[b"\r\n"]).is_err());
        assert!(read_all(&[&vec![b'a'; LINE_BYTES_MAX + 1]]).is_err());
    }
}
