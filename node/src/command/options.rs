//! The options behind the fixed words of a command: those of `SET` and `GETEX`, of the `EXPIRE`
//! family, of `SCAN`, and of `LMPOP` and `ZMPOP`. Words in, a value out; nothing is asked of a partition here.
//!
//! Invariant: what Redis refuses is refused with the same words, and in the same order of checks.

use ashlar_partition::{Condition, ExpireCondition, Expiry};

use crate::number::parse_i64;
use crate::resp::Words;

/// Error of a word that is not an option, or of options that exclude each other.
const SYNTAX: &str = "ERR syntax error";
/// Error of a word that has to be an integer.
const NOT_AN_INTEGER: &str = "ERR value is not an integer or out of range";

/// Whether a number counts from now or from 1970.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Base {
    /// From now.
    Now,
    /// From the beginning of 1970.
    Epoch,
}

/// What a number of time counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    /// Seconds.
    Seconds,
    /// Milliseconds.
    Milliseconds,
}

/// How an expiry is written: in which unit, and from when.
pub type Scale = (Unit, Base);

/// The scales of `SET` and `GETEX`, by the word that names each.
const SCALES: [(&[u8], Scale); 4] = [
    (b"ex", (Unit::Seconds, Base::Now)),
    (b"px", (Unit::Milliseconds, Base::Now)),
    (b"exat", (Unit::Seconds, Base::Epoch)),
    (b"pxat", (Unit::Milliseconds, Base::Epoch)),
];

/// Returns the millisecond since 1970 that a number in a scale means; `None` when it does not fit
/// 64 bits. Before 1970 is 1970: both have passed.
#[must_use]
pub fn moment_ms(number: i64, (unit, base): Scale, now_ms: u64) -> Option<u64> {
    let milliseconds = match unit {
        Unit::Seconds => number.checked_mul(1000)?,
        Unit::Milliseconds => number,
    };
    let moment = match base {
        Base::Now => milliseconds.checked_add(i64::try_from(now_ms).ok()?)?,
        Base::Epoch => milliseconds,
    };
    Some(u64::try_from(moment).unwrap_or(0))
}

/// Reads an expiry that has to lie above 0, as `SET`, `SETEX` and `GETEX` want it.
///
/// # Errors
/// The line to answer: the word is no integer, or the time is not allowed in the command called
/// `name`.
pub fn positive_moment_ms(
    word: &[u8],
    scale: Scale,
    now_ms: u64,
    name: &str,
) -> Result<u64, String> {
    let number = parse_i64(word).ok_or(NOT_AN_INTEGER)?;
    let moment = if number > 0 {
        moment_ms(number, scale, now_ms)
    } else {
        None
    };
    moment.ok_or_else(|| invalid_expire(name))
}

/// Returns the error of a time that does not fit.
#[must_use]
pub fn invalid_expire(name: &str) -> String {
    format!("ERR invalid expire time in '{name}' command")
}

/// Options of `SET`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SetOptions<'a> {
    /// The value that the key must have.
    pub equals: Option<&'a [u8]>,
    /// When to set.
    pub condition: Condition,
    /// When the key is to expire.
    pub expiry: Expiry,
    /// Set when the value before is asked for.
    pub old: bool,
}

/// Reads the options of `SET`, the words behind the value.
///
/// # Errors
/// The line to answer.
pub fn set_options(words: Words<'_>, now_ms: u64) -> Result<SetOptions<'_>, String> {
    let mut options = SetOptions {
        equals: None,
        condition: Condition::Always,
        expiry: Expiry::Never,
        old: false,
    };
    let mut time = None;
    let mut words = words.iter();
    while let Some(word) = words.next() {
        if let Some(condition) = condition_of(word) {
            let fits = [Condition::Always, condition].contains(&options.condition);
            if !fits || options.equals.is_some() {
                return Err(SYNTAX.to_owned());
            }
            options.condition = condition;
        } else if word.eq_ignore_ascii_case(b"ifeq")
            && options.condition == Condition::Always
            && options.equals.is_none()
        {
            options.equals = Some(words.next().ok_or(SYNTAX)?);
        } else if word.eq_ignore_ascii_case(b"get") {
            options.old = true;
        } else if word.eq_ignore_ascii_case(b"keepttl") && time.is_none() {
            options.expiry = Expiry::Keep;
        } else {
            let scale = scale_of(word, time.map(|(scale, _)| scale))
                .filter(|_| options.expiry != Expiry::Keep);
            time = Some((scale.ok_or(SYNTAX)?, words.next().ok_or(SYNTAX)?));
        }
    }
    if let Some((scale, number)) = time {
        options.expiry = Expiry::At(positive_moment_ms(number, scale, now_ms, "set")?);
    }
    Ok(options)
}

fn condition_of(word: &[u8]) -> Option<Condition> {
    match word {
        b"NX" | b"nx" | b"Nx" | b"nX" => Some(Condition::Absent),
        b"XX" | b"xx" | b"Xx" | b"xX" => Some(Condition::Present),
        _ => None,
    }
}

/// Returns the scale that a word names; `None` when another one was named before.
fn scale_of(word: &[u8], before: Option<Scale>) -> Option<Scale> {
    let (_, scale) = SCALES
        .iter()
        .find(|(name, _)| word.eq_ignore_ascii_case(name))?;
    if before.is_none_or(|before| before == *scale) {
        Some(*scale)
    } else {
        None
    }
}

/// What `GETEX` does to the expiry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Touch<'a> {
    /// Nothing.
    Leave,
    /// The key lasts for ever.
    Persist,
    /// The key expires then; whether the time is allowed is asked only when there is such a key.
    Expire(Scale, &'a [u8]),
}

/// Reads the options of `GETEX`, the words behind the key.
///
/// # Errors
/// The line to answer.
pub fn getex_options(words: Words<'_>) -> Result<Touch<'_>, &'static str> {
    let (mut persist, mut time) = (false, None);
    let mut words = words.iter();
    while let Some(word) = words.next() {
        if word.eq_ignore_ascii_case(b"persist") && time.is_none() {
            persist = true;
        } else {
            let scale = scale_of(word, time.map(|(scale, _)| scale)).filter(|_| !persist);
            time = Some((scale.ok_or(SYNTAX)?, words.next().ok_or(SYNTAX)?));
        }
    }
    Ok(match time {
        Some((scale, word)) => Touch::Expire(scale, word),
        None if persist => Touch::Persist,
        None => Touch::Leave,
    })
}

/// Reads the conditions of the `EXPIRE` family, the words behind the time.
///
/// # Errors
/// The line to answer: an unknown word, or two that exclude each other.
pub fn expire_condition(words: Words<'_>) -> Result<ExpireCondition, String> {
    let (mut nx, mut xx, mut gt, mut lt) = (false, false, false, false);
    for word in words {
        match word.to_ascii_lowercase().as_slice() {
            b"nx" => nx = true,
            b"xx" => xx = true,
            b"gt" => gt = true,
            b"lt" => lt = true,
            _ => {
                return Err(format!(
                    "ERR Unsupported option {}",
                    String::from_utf8_lossy(word)
                ));
            }
        }
    }
    if nx && (xx || gt || lt) {
        return Err(
            "ERR NX and XX, GT or LT options at the same time are not compatible".to_owned(),
        );
    }
    if gt && lt {
        return Err("ERR GT and LT options at the same time are not compatible".to_owned());
    }
    Ok(match (xx, gt, lt) {
        _ if nx => ExpireCondition::None,
        (false, false, false) => ExpireCondition::Always,
        (true, false, false) => ExpireCondition::Some,
        (false, true, _) => ExpireCondition::Later,
        (true, true, _) => ExpireCondition::SomeLater,
        (false, false, true) => ExpireCondition::Earlier,
        (true, false, true) => ExpireCondition::SomeEarlier,
    })
}

/// Options of `SCAN`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ScanOptions {
    /// Keys to look at.
    pub count: usize,
    /// Only keys that match this glob pattern.
    pub pattern: Option<Vec<u8>>,
    /// Only keys of this type.
    pub only_type: Option<Vec<u8>>,
}

/// Reads the options of `SCAN`, the words behind the cursor.
///
/// # Errors
/// The line to answer.
pub fn scan_options(words: Words<'_>) -> Result<ScanOptions, &'static str> {
    const COUNT_DEFAULT: usize = 10;
    let mut options = ScanOptions {
        count: COUNT_DEFAULT,
        pattern: None,
        only_type: None,
    };
    let mut words = words.iter();
    while let Some(word) = words.next() {
        let value = words.next().ok_or(SYNTAX)?;
        match word.to_ascii_lowercase().as_slice() {
            b"count" => {
                let count = parse_i64(value).ok_or(NOT_AN_INTEGER)?;
                options.count = usize::try_from(count)
                    .ok()
                    .filter(|count| *count > 0)
                    .ok_or(SYNTAX)?;
            }
            b"match" => options.pattern = Some(value.to_vec()),
            b"type" => options.only_type = Some(value.to_vec()),
            _ => return Err(SYNTAX),
        }
    }
    Ok(options)
}

/// Reads the words of `LMPOP` and `ZMPOP` from the number of keys on: the keys, the end that `end_of` reads, and how
/// many elements are popped at most.
///
/// # Errors
/// The line to answer.
pub fn pop_options<E>(
    words: Words<'_>,
    end_of: impl FnOnce(&[u8]) -> Option<E>,
) -> Result<(Words<'_>, E, u64), &'static str> {
    let positive = |word: &[u8]| {
        let number = parse_i64(word).and_then(|number| u64::try_from(number).ok());
        number.filter(|number| *number > 0)
    };
    let numkeys = words.get(0).and_then(positive);
    let numkeys = numkeys.ok_or("ERR numkeys should be greater than 0")?;
    let numkeys = usize::try_from(numkeys).map_err(|_| SYNTAX)?;
    let keys = words.tail(1).head(numkeys).ok_or(SYNTAX)?;
    let rest = words.tail(1 + numkeys);
    let end = rest.get(0).and_then(end_of).ok_or(SYNTAX)?;
    let count = match (rest.get(1), rest.get(2)) {
        (None, _) => 1,
        (Some(name), Some(count)) if name.eq_ignore_ascii_case(b"count") => {
            positive(count).ok_or("ERR count should be greater than 0")?
        }
        _ => return Err(SYNTAX),
    };
    match rest.len() > 3 {
        true => Err(SYNTAX),
        false => Ok((keys, end, count)),
    }
}
