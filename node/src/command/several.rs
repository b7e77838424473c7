//! Several elements of a collection at once, the same way in each family: those that the words of a command name are
//! removed, and those that a command has made take the place of a key. Not what an element is.

use ashlar_partition::Refusal;
use ashlar_partition::collection::{ELEMENT, Family};

use super::DataCall;
use super::collection::{Opened, integer};
use crate::pubsub::notice::Class;

impl DataCall<'_> {
    /// Removes the elements that the words behind the key name, each by `remove`, which says whether it was there;
    /// tells of it, and answers how many there were.
    ///
    /// # Errors
    /// As [`DataCall::open_to_remove`] and [`DataCall::expect_elements`]; or those of `remove`.
    pub fn remove_named(
        &mut self,
        family: Family,
        (class, event): (Class, &'static str),
        remove: fn(&mut Self, &Opened<'_>, &[u8]) -> Result<bool, Refusal>,
    ) -> Result<(), Refusal> {
        let Some(mut opened) = self.open_to_remove(self.word(1), family)? else {
            self.reply().integer(0);
            return Ok(());
        };
        let named = self.words.tail(2);
        if named.len() > 1 {
            self.expect_elements(&opened, ELEMENT, named.iter())?;
        }
        let mut removed = 0;
        for sub_key in named.iter() {
            removed += i64::from(remove(self, &opened, sub_key)?);
        }
        if removed > 0 {
            opened.add(-removed);
            self.notify(class, event, opened.key);
            self.close(&opened);
        }
        self.reply().integer(removed);
        Ok(())
    }

    /// Deletes an element if it is there; says whether it was.
    ///
    /// # Errors
    /// As [`DataCall::has_member`].
    pub fn delete_if_there(
        &mut self,
        opened: &Opened<'_>,
        sub_key: &[u8],
    ) -> Result<bool, Refusal> {
        let is_there = self.has_member(opened, sub_key)?;
        if is_there {
            self.delete(opened, (ELEMENT, sub_key));
        }
        Ok(is_there)
    }

    /// Stores elements under the first key of the command, each by `put`, in the place of whatever was there; tells of
    /// it, and answers how many. With none the key is gone.
    ///
    /// # Errors
    /// As [`DataCall::begin_anew`]; or those of `put`.
    pub fn store_all<E>(
        &mut self,
        family: Family,
        elements: &[E],
        (class, event): (Class, &'static str),
        put: fn(&mut Self, &Opened<'_>, &E) -> Result<(), Refusal>,
    ) -> Result<(), Refusal> {
        let (key, count) = (self.word(1), integer(elements.len() as u64));
        if elements.is_empty() {
            self.remove_whole(key)?;
        } else {
            let mut opened = self.begin_anew(key, family)?;
            for element in elements {
                put(self, &opened, element)?;
            }
            opened.add(count);
            self.notify(class, event, key);
            self.close(&opened);
        }
        self.reply().integer(count);
        Ok(())
    }
}
