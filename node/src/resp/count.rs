//! Counts replies in bytes that this node has encoded itself. Not a parser of what others send.

/// Returns how many replies `bytes` hold; what is malformed ends the count.
#[must_use]
pub fn count_replies(mut bytes: &[u8]) -> usize {
    let mut count = 0;
    while let Some(rest) = skip_reply(bytes) {
        count += 1;
        bytes = rest;
    }
    count
}

/// Returns what follows the first reply.
fn skip_reply(mut bytes: &[u8]) -> Option<&[u8]> {
    let mut values = 1_u64;
    while values > 0 {
        let end = bytes.windows(2).position(|pair| pair == b"\r\n")?;
        let (line, rest) = (&bytes[..end], &bytes[end + 2..]);
        let (kind, number) = line.split_first()?;
        let number = || std::str::from_utf8(number).ok()?.parse::<i64>().ok();
        // A length below zero stands for nothing at all.
        let length = |number: i64| u64::try_from(number).unwrap_or(0);
        bytes = rest;
        values -= 1;
        match kind {
            b'$' | b'=' | b'!' => {
                let number = number()?;
                if number >= 0 {
                    bytes = bytes.get(usize::try_from(number).ok()? + 2..)?;
                }
            }
            b'*' | b'~' | b'>' => values += length(number()?),
            b'%' => values += length(number()?) * 2,
            b'|' => values += length(number()?) * 2 + 1,
            _ => {}
        }
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn replies_of_every_kind_are_counted() {
        let replies: [&[u8]; 10] = [
            b"+OK\r\n",
            b"-ERR no\r\n",
            b":12\r\n",
            b"$5\r\na\r\nbc\r\n",
            b"$-1\r\n",
            b"*-1\r\n",
            b"*2\r\n$1\r\nx\r\n*1\r\n:1\r\n",
            b"%1\r\n+k\r\n_\r\n",
            b"*0\r\n",
            b"#t\r\n",
        ];
        for reply in replies {
            assert_eq!(
                count_replies(reply),
                1,
                "{}",
                String::from_utf8_lossy(reply)
            );
        }
        assert_eq!(count_replies(&replies.concat()), replies.len());
        assert_eq!(count_replies(b""), 0);
        assert_eq!(count_replies(b"$5\r\nab"), 0);
    }
}
