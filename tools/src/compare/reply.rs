//! Replies as bytes: where each ends, what it consists of, and whether two of them say the same. Not a decoder: nothing
//! is copied, and the bytes are what is compared.

/// Elements of replies within replies, at most: no server that is compared goes deeper.
const DEPTH_MAX: usize = 16;

/// Returns the bytes of the first whole reply of `bytes`; nothing when its end has not arrived.
///
/// # Errors
/// The bytes are no reply of either protocol version.
pub(crate) fn first(bytes: &[u8]) -> Result<Option<&[u8]>, String> {
    Ok(end(bytes, 0)?.map(|end| &bytes[..end]))
}

fn end(bytes: &[u8], depth: usize) -> Result<Option<usize>, String> {
    let Some(line) = bytes.iter().position(|byte| *byte == b'\n') else {
        return Ok(None);
    };
    let after = line + 1;
    let count = || count_of(&bytes[1..line]).ok_or_else(|| not_resp(bytes));
    match bytes[0] {
        b'+' | b'-' | b':' | b'_' | b',' | b'#' | b'(' => Ok(Some(after)),
        b'$' | b'=' | b'!' => {
            let end = count()?.map_or(after, |count| after + count + 2);
            Ok(Some(end).filter(|end| *end <= bytes.len()))
        }
        b'*' | b'~' | b'>' if depth < DEPTH_MAX => many(bytes, after, count()?.unwrap_or(0), depth),
        b'%' if depth < DEPTH_MAX => many(bytes, after, count()?.unwrap_or(0) * 2, depth),
        _ => Err(not_resp(bytes)),
    }
}

fn many(bytes: &[u8], mut at: usize, count: usize, depth: usize) -> Result<Option<usize>, String> {
    for _ in 0..count {
        match end(bytes.get(at..).unwrap_or_default(), depth + 1)? {
            Some(bytes) => at += bytes,
            None => return Ok(None),
        }
    }
    Ok(Some(at))
}

/// Reads the number of a header: none for -1.
fn count_of(digits: &[u8]) -> Option<Option<usize>> {
    let text = std::str::from_utf8(digits).ok()?.trim_end();
    if text == "-1" {
        return Some(None);
    }
    text.parse().ok().map(Some)
}

fn not_resp(bytes: &[u8]) -> String {
    let shown = &bytes[..bytes.len().min(60)];
    format!("this is no reply: {}", shown.escape_ascii())
}

/// Returns the header of an aggregate and its elements; nothing when it is none.
pub(crate) fn elements(reply: &[u8]) -> Option<(&[u8], Vec<&[u8]>)> {
    if !matches!(reply.first(), Some(b'*' | b'~' | b'>' | b'%')) {
        return None;
    }
    let header = reply.iter().position(|byte| *byte == b'\n')? + 1;
    let (mut rest, mut found) = (&reply[header..], Vec::new());
    while !rest.is_empty() {
        let element = first(rest).ok()??;
        rest = &rest[element.len()..];
        found.push(element);
    }
    Some((&reply[..header], found))
}

/// Returns the number that a reply is.
pub(crate) fn integer(reply: &[u8]) -> Option<i64> {
    let digits = reply.strip_prefix(b":")?;
    std::str::from_utf8(digits).ok()?.trim_end().parse().ok()
}

/// Says whether two replies are the same but for `same`, which is asked of what differs and is no aggregate.
pub(crate) fn alike(one: &[u8], other: &[u8], same: &dyn Fn(&[u8], &[u8]) -> bool) -> bool {
    if one == other {
        return true;
    }
    match (elements(one), elements(other)) {
        (Some((header, ones)), Some((of, others))) => {
            header == of
                && ones
                    .iter()
                    .zip(&others)
                    .all(|(one, other)| alike(one, other, same))
        }
        (None, None) => same(one, other),
        _ => false,
    }
}

/// Says whether two replies are the same aggregate in whatever order.
pub(crate) fn same_members(one: &[u8], other: &[u8]) -> bool {
    let sorted = |reply| {
        elements(reply).map(|(header, mut elements)| {
            elements.sort_unstable();
            (header, elements)
        })
    };
    match (sorted(one), sorted(other)) {
        (Some(one), Some(other)) => one == other,
        _ => one == other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn replies_end_where_they_end() {
        let stream = b"+OK\r\n*2\r\n$3\r\na\nb\r\n*-1\r\n%1\r\n:1\r\n_\r\n$-1\r\n=5\r\ntxt:x\r\n";
        let mut rest = &stream[..];
        let mut found = Vec::new();
        while !rest.is_empty() {
            let reply = first(rest).unwrap().unwrap();
            for cut in 0..reply.len() {
                assert_eq!(first(&reply[..cut]).unwrap_or(None), None);
            }
            rest = &rest[reply.len()..];
            found.push(reply.len());
        }
        assert_eq!(found, [5, 18, 11, 5, 11]);
        assert!(first(b"HTTP/1.1\r\n").is_err());
    }

    #[test]
    fn replies_are_alike_in_what_is_asked_for_alone() {
        let near = |one: &[u8], other: &[u8]| match (integer(one), integer(other)) {
            (Some(one), Some(other)) => (one - other).abs() <= 1,
            _ => false,
        };
        assert!(alike(b"*2\r\n:5\r\n+a\r\n", b"*2\r\n:6\r\n+a\r\n", &near));
        assert!(!alike(b"*2\r\n:5\r\n+a\r\n", b"*2\r\n:5\r\n+b\r\n", &near));
        assert!(!alike(b"*1\r\n:5\r\n", b":5\r\n", &near));
        assert!(same_members(b"*2\r\n:1\r\n:2\r\n", b"*2\r\n:2\r\n:1\r\n"));
        assert!(!same_members(b"*1\r\n:1\r\n", b"*1\r\n:2\r\n"));
    }
}
