//! The Redis protocol as far as simulated clients speak it: commands out, replies of RESP2 in.

/// A reply, as far as clients care.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Reply {
    /// A simple string, whatever it says.
    Ok,
    Integer(i64),
    /// `None` for null, of whichever kind.
    Bulk(Option<Vec<u8>>),
    Array(Vec<Self>),
    Error(String),
}

/// Appends a command.
pub(super) fn command(bytes: &mut Vec<u8>, words: &[&str]) {
    bytes.extend_from_slice(format!("*{}\r\n", words.len()).as_bytes());
    for word in words {
        bytes.extend_from_slice(format!("${}\r\n{word}\r\n", word.len()).as_bytes());
    }
}

/// Parses one reply and says how many bytes it has; `None` when it is not whole.
pub(super) fn parse(bytes: &[u8]) -> Option<(Reply, usize)> {
    let end = bytes.windows(2).position(|pair| pair == b"\r\n")?;
    let line = String::from_utf8_lossy(&bytes[1..end]).into_owned();
    let used = end + 2;
    Some(match bytes[0] {
        b'+' => (Reply::Ok, used),
        b'-' => (Reply::Error(line), used),
        b':' => (Reply::Integer(line.parse().ok()?), used),
        b'*' if line == "-1" => (Reply::Bulk(None), used),
        b'*' => parse_array(bytes, used, line.parse().ok()?)?,
        b'$' => match usize::try_from(line.parse::<i64>().ok()?) {
            Err(_) => (Reply::Bulk(None), used),
            Ok(length) => {
                let body = bytes.get(used..used + length + 2)?;
                let body = body[..length].to_vec();
                (Reply::Bulk(Some(body)), used + length + 2)
            }
        },
        other => {
            let what = format!("a reply of type {:?}", char::from(other));
            (Reply::Error(what), used)
        }
    })
}

fn parse_array(bytes: &[u8], mut used: usize, length: usize) -> Option<(Reply, usize)> {
    let mut items = Vec::new();
    for _ in 0..length {
        let (item, more) = parse(&bytes[used..])?;
        items.push(item);
        used += more;
    }
    Some((Reply::Array(items), used))
}

/// Returns the value that the write `number` of `key` sets, of `bytes` bytes or a few more: it says
/// what it is, so that no part of another value is taken for it.
pub(super) fn value_of(key: &str, number: u64, bytes: usize) -> String {
    let fill = fill_of(key, number);
    format!("{number} {bytes} {key} {}", fill.repeat(bytes))
}

fn fill_of(key: &str, number: u64) -> &'static str {
    const FILLS: [&str; 7] = ["a", "b", "c", "d", "e", "f", "g"];
    let sum: usize = key.bytes().map(usize::from).sum();
    FILLS[(sum + usize::try_from(number % 7).expect("below 7")) % 7]
}

/// Returns the number of the write that set `value`.
///
/// # Errors
/// It is no value that was ever set at `key`.
pub(super) fn number_of(key: &str, value: &[u8]) -> Result<u64, String> {
    let text = String::from_utf8_lossy(value);
    let mut words = text.split(' ');
    let number = words.next().and_then(|word| word.parse().ok());
    let bytes = words.next().and_then(|word| word.parse().ok());
    match (number, bytes) {
        (Some(number), Some(bytes)) if value_of(key, number, bytes) == text => Ok(number),
        _ => {
            let some: String = text.chars().take(60).collect();
            Err(format!(
                "{} bytes that nobody wrote there: {some:?}",
                value.len()
            ))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn replies_are_parsed_once_they_are_whole() {
        let bytes = b"*2\r\n$-1\r\n*2\r\n$1\r\nk\r\n:5\r\n+OK\r\n";
        let whole = bytes.len() - 5;
        assert_eq!(
            parse(bytes),
            Some((
                Reply::Array(vec![
                    Reply::Bulk(None),
                    Reply::Array(vec![Reply::Bulk(Some(b"k".to_vec())), Reply::Integer(5)])
                ]),
                whole
            ))
        );
        assert!((0..whole).all(|end| parse(&bytes[..end]).is_none()));
    }

    #[test]
    fn a_value_of_another_write_is_not_mistaken() {
        let value = value_of("key:1:2", 7, 100);
        assert_eq!(number_of("key:1:2", value.as_bytes()), Ok(7));
        assert!(number_of("key:1:3", value.as_bytes()).is_err());
        assert!(number_of("key:1:2", &value.as_bytes()[..90]).is_err());
    }
}
