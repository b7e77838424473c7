//! `HSCAN`, `SSCAN`, `ZSCAN`: walks over a collection in steps. Where a step ended is remembered by the node under a
//! number, as for `SCAN`; elements that are there all the while are answered once.

use std::ops::{Bound, ControlFlow};

use ashlar_partition::collection::{ELEMENT, Family, head_key, sub_key};
use ashlar_partition::{Order, Refusal};

use super::collection::{Element, Opened};
use super::options::{self, ScanOptions};
use super::{DataCall, syntax_error};
use crate::glob::{Case, matches};
use crate::resp::encode::Encoder;

/// Why no step was taken.
const BAD_CURSOR: &str = "ERR invalid cursor";

impl DataCall<'_> {
    /// Answers a step: `show` writes an element, which is so many values.
    ///
    /// # Errors
    /// As [`DataCall::walk`].
    pub fn scan_elements(
        &mut self,
        family: Family,
        shown: usize,
        show: impl Fn(&[u8], &[u8], &mut Encoder<'_>),
    ) -> Result<(), Refusal> {
        let number = std::str::from_utf8(self.word(2)).ok();
        let Some(number) = number.and_then(|text| text.parse::<u64>().ok()) else {
            self.reply().error(BAD_CURSOR.as_bytes());
            return Ok(());
        };
        let Some(opened) = self.open_to_read(self.word(1), family)? else {
            let mut reply = self.reply();
            reply.array(2);
            reply.bulk(b"0");
            reply.array(0);
            return Ok(());
        };
        let options = match options::scan_options(self.words.tail(3)) {
            Ok(options) if options.only_type.is_none() => options,
            Ok(_) => {
                syntax_error(&mut self.reply());
                return Ok(());
            }
            Err(error) => {
                self.reply().error(error.as_bytes());
                return Ok(());
            }
        };
        let Some(from) = self.place_of(number, &opened) else {
            self.reply().error(BAD_CURSOR.as_bytes());
            return Ok(());
        };
        let (found, next) = self.scan_step(&opened, from.as_deref(), &options)?;
        let cursor = next.map_or(0, |place| self.shared.keep_cursor(place));
        let mut reply = self.reply();
        reply.array(2);
        reply.bulk(cursor.to_string().as_bytes());
        reply.array(found.len() * shown);
        for (sub_key, value) in &found {
            show(sub_key, value, &mut reply);
        }
        Ok(())
    }

    /// Returns behind which sub-key a cursor goes on, nothing in it at the beginning; `None` when it was never given.
    fn place_of(&self, number: u64, opened: &Opened<'_>) -> Option<Option<Vec<u8>>> {
        if number == 0 {
            return Some(None);
        }
        let place = self.shared.cursor(number)?;
        // Under the key there may be another collection by now: what was walked over is gone.
        let head = head_key(opened.id());
        let is_its = place.starts_with(&head[..head.len() - 1]);
        Some(is_its.then(|| sub_key(&place).to_vec()))
    }

    /// Returns the elements of a step that match, and the key behind which to go on.
    fn scan_step(
        &mut self,
        opened: &Opened<'_>,
        from: Option<&[u8]>,
        options: &ScanOptions,
    ) -> Result<(Vec<Element>, Option<Vec<u8>>), Refusal> {
        let pattern = options.pattern.as_deref();
        let (mut seen, mut found, mut last) = (0, Vec::new(), Vec::new());
        let mut has_more = false;
        let sub_keys = (
            from.map_or(Bound::Unbounded, Bound::Excluded),
            Bound::Unbounded,
        );
        self.walk(
            opened,
            (ELEMENT, sub_keys),
            Order::Ascending,
            |key, value| {
                if seen == options.count {
                    has_more = true;
                    return ControlFlow::Break(());
                }
                seen += 1;
                last.clear();
                last.extend_from_slice(key);
                if pattern.is_none_or(|pattern| matches(pattern, key, Case::Sensitive)) {
                    found.push((key.to_vec(), value.to_vec()));
                }
                ControlFlow::Continue(())
            },
        )?;
        let next = has_more.then(|| self.key.element(opened.id(), ELEMENT, &last).to_vec());
        Ok((found, next))
    }
}
