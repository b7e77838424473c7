//! The least of a RESP2 reader that a load generator needs: it finds where a reply ends and borrows what is in it. It
//! copies nothing, and what has not come whole is read again when more is there, from the front.
//!
//! Invariant: no declared length allocates memory.

/// Longest line that is waited for, in bytes; more without an end of line is not RESP.
const LINE_BYTES_MAX: usize = 64 << 10;
/// Largest bulk, and most elements of an array, that are waited for.
const BULK_BYTES_MAX: usize = 512 << 20;
const ELEMENTS_MAX: usize = 1 << 20;
/// Arrays within arrays.
const DEPTH_MAX: u32 = 4;

/// One reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reply<'a> {
    /// A simple string, as `+OK`.
    Status,
    /// An error with its text.
    Error(&'a [u8]),
    /// A value that was there.
    Bulk(&'a [u8]),
    /// A value, or an array, that was not there.
    Null,
    /// A number.
    Integer(i64),
    /// An array.
    Array(Elements<'a>),
}

/// What the front of some bytes is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Front<'a> {
    /// A reply, and how many bytes it has.
    Whole(Reply<'a>, usize),
    /// The beginning of one that has at least so many bytes.
    Partial(usize),
}

/// The elements of an array, which are known to be whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Elements<'a> {
    left: usize,
    bytes: &'a [u8],
}

impl Elements<'_> {
    /// Returns how many are left.
    pub(crate) fn left(&self) -> usize {
        self.left
    }
}

impl<'a> Iterator for Elements<'a> {
    type Item = Reply<'a>;

    fn next(&mut self) -> Option<Reply<'a>> {
        self.left = self.left.checked_sub(1)?;
        match read(self.bytes) {
            Ok(Front::Whole(reply, bytes)) => {
                self.bytes = &self.bytes[bytes..];
                Some(reply)
            }
            other => unreachable!("an array was whole, and an element is {other:?}"),
        }
    }
}

/// Reads the reply at the front of `bytes`.
///
/// # Errors
/// The bytes are not RESP2, or larger than any reply; the connection is of no more use.
pub(crate) fn read(bytes: &[u8]) -> Result<Front<'_>, String> {
    read_at(bytes, DEPTH_MAX)
}

fn read_at(bytes: &[u8], depth: u32) -> Result<Front<'_>, String> {
    let Some(end) = line_end(bytes) else {
        return match bytes.len() > LINE_BYTES_MAX {
            true => Err("the server sends what is not RESP: a line without end".to_owned()),
            false => Ok(Front::Partial(bytes.len() + 1)),
        };
    };
    let (line, used) = (&bytes[..end], end + 2);
    let whole = |reply| Ok(Front::Whole(reply, used));
    match line {
        [b'+', ..] => whole(Reply::Status),
        [b'-', text @ ..] => whole(Reply::Error(text)),
        [b':', rest @ ..] => whole(Reply::Integer(number(rest).ok_or_else(|| not_resp(line))?)),
        b"$-1" | b"*-1" => whole(Reply::Null),
        [b'$', rest @ ..] => {
            let size = length(rest, BULK_BYTES_MAX).ok_or_else(|| not_resp(line))?;
            match bytes.get(used..used + size + 2) {
                Some(bulk) => Ok(Front::Whole(Reply::Bulk(&bulk[..size]), used + size + 2)),
                None => Ok(Front::Partial(used + size + 2)),
            }
        }
        [b'*', rest @ ..] if depth > 0 => {
            let count = length(rest, ELEMENTS_MAX).ok_or_else(|| not_resp(line))?;
            read_array(bytes, (used, count), depth - 1)
        }
        _ => Err(not_resp(line)),
    }
}

fn read_array(
    bytes: &[u8],
    (from, count): (usize, usize),
    depth: u32,
) -> Result<Front<'_>, String> {
    let mut at = from;
    for left in (1..=count).rev() {
        match read_at(&bytes[at..], depth)? {
            Front::Whole(_, used) => at += used,
            // Each of the others has three bytes at least.
            Front::Partial(least) => return Ok(Front::Partial(at + least + 3 * (left - 1))),
        }
    }
    let elements = Elements {
        left: count,
        bytes: &bytes[from..at],
    };
    Ok(Front::Whole(Reply::Array(elements), at))
}

fn line_end(bytes: &[u8]) -> Option<usize> {
    let end = bytes
        .iter()
        .take(LINE_BYTES_MAX)
        .position(|byte| *byte == b'\r')?;
    (bytes.get(end + 1) == Some(&b'\n')).then_some(end)
}

fn number(digits: &[u8]) -> Option<i64> {
    match digits {
        // By far the most numbers are short.
        [digit @ b'0'..=b'9'] => Some(i64::from(digit - b'0')),
        _ => std::str::from_utf8(digits).ok()?.parse().ok(),
    }
}

fn length(digits: &[u8], max: usize) -> Option<usize> {
    let mut length = 0_usize;
    for digit in digits {
        let digit = digit.checked_sub(b'0').filter(|digit| *digit < 10)?;
        length = length * 10 + usize::from(digit);
        if length > max {
            return None;
        }
    }
    (!digits.is_empty()).then_some(length)
}

fn not_resp(line: &[u8]) -> String {
    let shown = String::from_utf8_lossy(&line[..line.len().min(40)]).into_owned();
    format!("the server sends what is no RESP2 reply: {shown:?}")
}

#[cfg(test)]
mod tests {
    use super::*;

    const STREAM: &[u8] = b"+OK\r\n$5\r\nhe\r\no\r\n$-1\r\n-ERR no\r\n$0\r\n\r\n:-12\r\n*2\r\n$1\r\na\r\n*1\r\n:7\r\n*0\r\n*-1\r\n";

    fn read_all(mut bytes: &[u8]) -> Vec<String> {
        let mut found = Vec::new();
        while !bytes.is_empty() {
            let Front::Whole(reply, used) = read(bytes).unwrap() else {
                panic!("{bytes:?} is whole")
            };
            found.push(match reply {
                Reply::Array(elements) => format!("{:?}", elements.collect::<Vec<_>>().len()),
                other => format!("{other:?}"),
            });
            bytes = &bytes[used..];
        }
        found
    }

    #[test]
    fn replies_are_told_apart() {
        let found = read_all(STREAM);
        assert_eq!(found.len(), 9);
        assert_eq!(found[0], "Status");
        assert_eq!(found[1], format!("{:?}", Reply::Bulk(b"he\r\no")));
        assert_eq!(found[5], "Integer(-12)");
        assert_eq!(&found[6..], ["2", "0", "Null"]);
    }

    #[test]
    fn a_part_of_a_reply_promises_no_more_bytes_than_there_are() {
        let mut from = 0;
        while from < STREAM.len() {
            let Ok(Front::Whole(_, used)) = read(&STREAM[from..]) else {
                panic!("whole replies")
            };
            for cut in 0..used {
                match read(&STREAM[from..from + cut]) {
                    Ok(Front::Partial(least)) => {
                        assert!((cut + 1..=used).contains(&least), "{from}, {cut}: {least}")
                    }
                    other => panic!("cut at {cut}: {other:?}"),
                }
            }
            from += used;
        }
    }

    #[test]
    fn what_is_not_resp_is_refused() {
        assert!(
            read(b"HTTP/1.1 400 Bad Request\r\n")
                .unwrap_err()
                .contains("HTTP/1.1")
        );
        let deep = b"*1\r\n".repeat(9);
        for bytes in [
            &b"$-7\r\n"[..],
            b"\r\n",
            b"$\r\n",
            b"$99999999999999999999\r\n",
            b"*1048577\r\n",
            &deep,
        ] {
            assert!(read(bytes).is_err(), "{bytes:?}");
        }
        assert!(read(&vec![b'a'; LINE_BYTES_MAX + 1]).is_err());
    }

    #[test]
    fn random_bytes_never_panic() {
        let mut rng = ashlar_io::rng::Rng::new(5);
        let alphabet = b"+-:$*0123456789\r\n\r\n\r\nab";
        for _ in 0..50_000 {
            let bytes: Vec<u8> = (0..rng.index(40))
                .map(|_| alphabet[rng.index(alphabet.len())])
                .collect();
            if let Ok(Front::Whole(Reply::Array(elements), used)) = read(&bytes) {
                assert!(elements.left() <= used);
                elements.for_each(drop);
            }
        }
    }
}
