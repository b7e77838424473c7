//! Decides what a request answers and what it changes, from the request and the key's current
//! version alone. Pure: no clock, no IO, no memtable. Only the proposer evaluates; every replica
//! then applies the outcome blindly.

use std::borrow::Cow;

use crate::collection::Root;
use crate::request::{Condition, ExpireCondition, Expiry, Put, Refusal, Request, Response, Return};

/// A key as it is now. One that has expired is not there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Current<'a> {
    /// The value; of a collection, its root.
    pub(crate) value: &'a [u8],
    pub(crate) is_root: bool,
    pub(crate) expire_at_ms: Option<u64>,
}

/// What becomes of the key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Effect {
    Nothing,
    /// It gets a value; if that is unchanged, so is what the key is.
    Put {
        value: NewValue,
        expire_at_ms: Option<u64>,
    },
    Delete,
}

/// The value that a key is to have, told apart by whose bytes it is, so that none is copied without
/// need.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum NewValue {
    /// The one in the request.
    Requested,
    /// The one that it has.
    Unchanged,
    /// A new one.
    Made(Vec<u8>),
}

/// The answer, and what becomes of the key.
pub(crate) type Decision<'a> = (Response<'a>, Effect);

/// Decides. `value_bytes_max` bounds values that the request would make.
pub(crate) fn evaluate<'a>(
    request: &Request<'a>,
    current: Option<Current<'a>>,
    now_ms: u64,
    value_bytes_max: usize,
) -> Decision<'a> {
    let is_root = current.is_some_and(|c| c.is_root);
    if is_root && request.is_of_strings() {
        return (Response::Refused(Refusal::WrongType), Effect::Nothing);
    }
    match *request {
        Request::Get => (answer(current), Effect::Nothing),
        Request::Look => (look(current), Effect::Nothing),
        Request::Put(put) => evaluate_put(put, current, now_ms),
        Request::Delete => match current {
            Some(_) => (Response::Integer(1), Effect::Delete),
            None => (Response::Integer(0), Effect::Nothing),
        },
        Request::Take => match current {
            Some(_) => (answer(current), Effect::Delete),
            None => (Response::Missing, Effect::Nothing),
        },
        Request::Add(delta) => evaluate_add(delta, current),
        Request::Append(suffix) => evaluate_append(suffix, current, value_bytes_max),
        Request::Expire { at_ms, condition } => evaluate_expire(at_ms, condition, current, now_ms),
        Request::Persist => match current {
            Some(Current {
                expire_at_ms: Some(_),
                ..
            }) => (
                Response::Integer(1),
                Effect::Put {
                    value: NewValue::Unchanged,
                    expire_at_ms: None,
                },
            ),
            _ => (Response::Integer(0), Effect::Nothing),
        },
    }
}

fn look(current: Option<Current<'_>>) -> Response<'_> {
    current.map_or(Response::Missing, |c| {
        let family = Root::decode(c.value)
            .filter(|_| c.is_root)
            .map(|root| root.family);
        Response::There(family, c.expire_at_ms)
    })
}

fn answer(current: Option<Current<'_>>) -> Response<'_> {
    current.map_or(Response::Missing, |c| {
        Response::Value(Cow::Borrowed(c.value), c.expire_at_ms)
    })
}

fn evaluate_put<'a>(put: Put<'a>, current: Option<Current<'a>>, now_ms: u64) -> Decision<'a> {
    let holds = match put.condition {
        Condition::Always => true,
        Condition::Absent => current.is_none(),
        Condition::Present => current.is_some(),
    };
    let response = match put.returns {
        Return::Old => answer(current),
        Return::Outcome if holds => Response::Done,
        Return::Outcome => Response::Missing,
    };
    if !holds {
        return (response, Effect::Nothing);
    }
    let expire_at_ms = match put.expiry {
        Expiry::Never => None,
        Expiry::Keep => current.and_then(|c| c.expire_at_ms),
        Expiry::At(at_ms) => Some(at_ms),
    };
    // An expiry that has passed: the key is gone as soon as it is set.
    if expire_at_ms.is_some_and(|at_ms| at_ms <= now_ms) {
        let effect = if current.is_some() {
            Effect::Delete
        } else {
            Effect::Nothing
        };
        return (response, effect);
    }
    (
        response,
        Effect::Put {
            value: NewValue::Requested,
            expire_at_ms,
        },
    )
}

fn evaluate_add(delta: i64, current: Option<Current<'_>>) -> Decision<'_> {
    let before = match current.map(|c| parse_integer(c.value)) {
        None => 0,
        Some(Some(number)) => number,
        Some(None) => return (Response::Refused(Refusal::NotAnInteger), Effect::Nothing),
    };
    let Some(sum) = before.checked_add(delta) else {
        return (Response::Refused(Refusal::Overflow), Effect::Nothing);
    };
    let value = NewValue::Made(sum.to_string().into_bytes());
    (
        Response::Integer(sum),
        Effect::Put {
            value,
            expire_at_ms: current.and_then(|c| c.expire_at_ms),
        },
    )
}

/// Reads a decimal integer as Redis does: no sign but a minus, no leading zeros, no spaces.
fn parse_integer(bytes: &[u8]) -> Option<i64> {
    let digits = bytes.strip_prefix(b"-").unwrap_or(bytes);
    let plain = match digits {
        b"0" => digits.len() == bytes.len(),
        [b'1'..=b'9', rest @ ..] => rest.iter().all(u8::is_ascii_digit),
        _ => false,
    };
    if plain {
        std::str::from_utf8(bytes).ok()?.parse().ok()
    } else {
        None
    }
}

fn evaluate_append<'a>(
    suffix: &'a [u8],
    current: Option<Current<'a>>,
    value_bytes_max: usize,
) -> Decision<'a> {
    let length = current.map_or(0, |c| c.value.len()) + suffix.len();
    if length > value_bytes_max {
        return (Response::Refused(Refusal::TooLong), Effect::Nothing);
    }
    let effect = match current {
        None => Effect::Put {
            value: NewValue::Requested,
            expire_at_ms: None,
        },
        Some(_) if suffix.is_empty() => Effect::Nothing,
        Some(c) => {
            let value = NewValue::Made([c.value, suffix].concat());
            Effect::Put {
                value,
                expire_at_ms: c.expire_at_ms,
            }
        }
    };
    (
        Response::Integer(i64::try_from(length).expect("bounded above")),
        effect,
    )
}

fn evaluate_expire(
    at_ms: u64,
    condition: ExpireCondition,
    current: Option<Current<'_>>,
    now_ms: u64,
) -> Decision<'_> {
    let Some(current) = current else {
        return (Response::Integer(0), Effect::Nothing);
    };
    let before = current.expire_at_ms;
    let later = before.is_some_and(|before| at_ms > before);
    let earlier = before.is_none_or(|before| at_ms < before);
    let holds = match condition {
        ExpireCondition::Always => true,
        ExpireCondition::None => before.is_none(),
        ExpireCondition::Some => before.is_some(),
        ExpireCondition::Later | ExpireCondition::SomeLater => later,
        ExpireCondition::Earlier => earlier,
        ExpireCondition::SomeEarlier => before.is_some() && earlier,
    };
    if !holds {
        return (Response::Integer(0), Effect::Nothing);
    }
    if at_ms <= now_ms {
        return (Response::Integer(1), Effect::Delete);
    }
    (
        Response::Integer(1),
        Effect::Put {
            value: NewValue::Unchanged,
            expire_at_ms: Some(at_ms),
        },
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    const HERE: Option<Current<'_>> = Some(Current {
        value: b"10",
        is_root: false,
        expire_at_ms: Some(500),
    });

    fn decide<'a>(request: Request<'a>, current: Option<Current<'a>>) -> Decision<'a> {
        evaluate(&request, current, 100, 16)
    }

    fn put(condition: Condition, expiry: Expiry, returns: Return) -> Request<'static> {
        Request::Put(Put {
            value: b"new",
            condition,
            expiry,
            returns,
        })
    }

    #[test]
    fn a_put_keeps_its_conditions() {
        let set = |expire_at_ms| Effect::Put {
            value: NewValue::Requested,
            expire_at_ms,
        };
        let always = put(Condition::Always, Expiry::Never, Return::Outcome);
        assert_eq!(decide(always, HERE), (Response::Done, set(None)));
        let absent = put(Condition::Absent, Expiry::Never, Return::Outcome);
        assert_eq!(decide(absent, HERE), (Response::Missing, Effect::Nothing));
        assert_eq!(decide(absent, None), (Response::Done, set(None)));
        let present = put(Condition::Present, Expiry::Keep, Return::Old);
        assert_eq!(
            decide(present, HERE),
            (
                Response::Value(Cow::Borrowed(b"10"), Some(500)),
                set(Some(500))
            )
        );
        assert_eq!(decide(present, None), (Response::Missing, Effect::Nothing));
        let past = put(Condition::Always, Expiry::At(100), Return::Outcome);
        assert_eq!(decide(past, HERE), (Response::Done, Effect::Delete));
        assert_eq!(decide(past, None), (Response::Done, Effect::Nothing));
    }

    #[test]
    fn sums_are_exact_or_refused() {
        let sum = Effect::Put {
            value: NewValue::Made(b"7".to_vec()),
            expire_at_ms: Some(500),
        };
        assert_eq!(decide(Request::Add(-3), HERE), (Response::Integer(7), sum));
        for bad in [
            &b"x"[..],
            b"",
            b"+1",
            b"01",
            b" 1",
            b"-0",
            b"9223372036854775808",
            b"1.5",
        ] {
            let current = Some(Current {
                value: bad,
                is_root: false,
                expire_at_ms: None,
            });
            assert_eq!(
                decide(Request::Add(1), current),
                (Response::Refused(Refusal::NotAnInteger), Effect::Nothing)
            );
        }
        let max = Some(Current {
            value: b"9223372036854775807",
            is_root: false,
            expire_at_ms: None,
        });
        assert_eq!(
            decide(Request::Add(1), max),
            (Response::Refused(Refusal::Overflow), Effect::Nothing)
        );
        let min = Some(Current {
            value: b"-9223372036854775808",
            is_root: false,
            expire_at_ms: None,
        });
        assert_eq!(decide(Request::Add(0), min).0, Response::Integer(i64::MIN));
    }

    #[test]
    fn appending_is_bounded() {
        assert_eq!(decide(Request::Append(b"ab"), HERE).0, Response::Integer(4));
        assert_eq!(
            decide(Request::Append(b"0123456789abcde"), HERE).0,
            Response::Refused(Refusal::TooLong)
        );
        assert_eq!(
            decide(Request::Append(b""), HERE),
            (Response::Integer(2), Effect::Nothing)
        );
        assert!(matches!(
            decide(Request::Append(b""), None),
            (Response::Integer(0), Effect::Put { .. })
        ));
    }

    #[test]
    fn expiry_conditions_treat_none_as_for_ever() {
        let for_ever = Some(Current {
            value: b"v",
            is_root: false,
            expire_at_ms: None,
        });
        let did = |at_ms, condition, current| {
            decide(Request::Expire { at_ms, condition }, current).0 == Response::Integer(1)
        };
        use ExpireCondition as C;
        assert!(did(600, C::Always, HERE) && !did(600, C::Always, None));
        assert!(!did(600, C::None, HERE) && did(600, C::None, for_ever));
        assert!(did(600, C::Some, HERE) && !did(600, C::Some, for_ever));
        assert!(
            did(600, C::Later, HERE) && !did(400, C::Later, HERE) && !did(600, C::Later, for_ever)
        );
        assert!(
            did(400, C::Earlier, HERE)
                && !did(600, C::Earlier, HERE)
                && did(600, C::Earlier, for_ever)
        );
        assert!(!did(500, C::Later, HERE) && !did(500, C::Earlier, HERE));
        assert!(
            !did(600, C::SomeEarlier, for_ever)
                && did(400, C::SomeEarlier, HERE)
                && did(600, C::SomeLater, HERE)
        );
        assert_eq!(
            decide(
                Request::Expire {
                    at_ms: 99,
                    condition: C::Always
                },
                HERE
            )
            .1,
            Effect::Delete
        );
        assert_eq!(decide(Request::Persist, HERE).0, Response::Integer(1));
        assert_eq!(decide(Request::Persist, for_ever).0, Response::Integer(0));
    }
}
