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
    head(bytes, b'*', words.len());
    for word in words {
        head(bytes, b'$', word.len());
        bytes.extend_from_slice(word.as_bytes());
        bytes.extend_from_slice(b"\r\n");
    }
}

fn head(bytes: &mut Vec<u8>, kind: u8, count: usize) {
    bytes.push(kind);
    let digits = count.checked_ilog10().unwrap_or(0);
    for place in (0..=digits).rev() {
        let digit = count / 10_usize.pow(place) % 10;
        bytes.push(b'0' + u8::try_from(digit).expect("below 10"));
    }
    bytes.extend_from_slice(b"\r\n");
}

/// Parses one reply and says how many bytes it has; `None` when it is not whole.
pub(super) fn parse(bytes: &[u8]) -> Option<(Reply, usize)> {
    let end = bytes.windows(2).position(|pair| pair == b"\r\n")?;
    let line = &bytes[1..end];
    let number = || str::from_utf8(line).ok()?.parse::<i64>().ok();
    let used = end + 2;
    Some(match bytes[0] {
        b'+' => (Reply::Ok, used),
        b'-' => (
            Reply::Error(String::from_utf8_lossy(line).into_owned()),
            used,
        ),
        b':' => (Reply::Integer(number()?), used),
        b'*' if line == b"-1" => (Reply::Bulk(None), used),
        b'*' => parse_array(bytes, used, usize::try_from(number()?).ok()?)?,
        b'$' => match usize::try_from(number()?) {
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
    let mut value = head_of(key, number, bytes);
    value.push_str(&fill.repeat(bytes));
    value
}

fn head_of(key: &str, number: u64, bytes: usize) -> String {
    format!("{number} {bytes} {key} ")
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
    match written(key, value) {
        Some(number) => Ok(number),
        None => {
            let text = String::from_utf8_lossy(value);
            let some: String = text.chars().take(60).collect();
            Err(format!(
                "{} bytes that nobody wrote there: {some:?}",
                value.len()
            ))
        }
    }
}

/// Returns the number of a value that was written at `key`.
fn written(key: &str, value: &[u8]) -> Option<u64> {
    let mut words = value.split(|byte| *byte == b' ');
    let mut word = || str::from_utf8(words.next()?).ok();
    let (number, bytes) = (word()?.parse().ok()?, word()?.parse().ok()?);
    let fill = value.strip_prefix(head_of(key, number, bytes).as_bytes())?;
    let byte = fill_of(key, number).as_bytes()[0];
    (fill.len() == bytes && fill.iter().all(|other| *other == byte)).then_some(number)
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
