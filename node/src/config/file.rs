//! Reads the TOML of a configuration file onto a [`Config`]; knows lines and tables, but no key.

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::Config;
use super::error::{ConfigError, Place};
use super::knob::{Knob, Shape};
use super::knobs::KNOBS;

/// The text of one file, to turn offsets into lines.
struct Source<'a> {
    text: &'a str,
    name: &'a str,
}

/// Assigns everything that `text` says.
pub(super) fn lay_over(config: &mut Config, text: &str, name: &str) -> Result<(), ConfigError> {
    // Editors of one large system begin files with a byte order mark; the line count does not see
    // it.
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let source = Source { text, name };
    let document = DeTable::parse(text).map_err(|error| ConfigError::Syntax {
        place: source.place(error.span().map(|span| span.start)),
        message: error.message().split('\n').collect::<Vec<_>>().join("; "),
    })?;
    for (key, value) in in_order(document.get_ref()) {
        source.lay_over_top(config, key, value)?;
    }
    Ok(())
}

/// One key and its value, both with the place where they stand.
type Entry<'a> = (
    &'a Spanned<std::borrow::Cow<'a, str>>,
    &'a Spanned<DeValue<'a>>,
);

/// Returns the entries of a table as they stand in the file, so that the first error is the topmost
/// one.
fn in_order<'a>(table: &'a DeTable<'a>) -> Vec<Entry<'a>> {
    let mut entries: Vec<_> = table.iter().collect();
    entries.sort_by_key(|(key, _)| key.span().start);
    entries
}

impl Source<'_> {
    /// Assigns one entry of the top level: a knob, or a table of knobs.
    fn lay_over_top(
        &self,
        config: &mut Config,
        key: &Spanned<std::borrow::Cow<'_, str>>,
        value: &Spanned<DeValue<'_>>,
    ) -> Result<(), ConfigError> {
        let place = self.place(Some(key.span().start));
        let name = key.get_ref().as_ref();
        let is_table = KNOBS
            .iter()
            .any(|knob| knob.table() == name && !name.is_empty());
        if !is_table {
            return self.assign(config, name, key.span().start, value.get_ref());
        }
        let DeValue::Table(table) = value.get_ref() else {
            let expected = "a table: write its name in brackets and its keys below";
            return Err(ConfigError::Shape {
                place,
                key: name.to_owned(),
                expected,
            });
        };
        for (leaf, value) in in_order(table) {
            let full = format!("{name}.{}", leaf.get_ref());
            self.assign(config, &full, leaf.span().start, value.get_ref())?;
        }
        Ok(())
    }

    /// Assigns one knob.
    fn assign(
        &self,
        config: &mut Config,
        key: &str,
        offset: usize,
        value: &DeValue<'_>,
    ) -> Result<(), ConfigError> {
        let place = self.place(Some(offset));
        let Some(knob) = Knob::find(key) else {
            return Err(ConfigError::unknown(place, key));
        };
        let given = shown(value);
        match accepts(knob, value) && knob.assign(config, &given).is_ok() {
            true => Ok(()),
            false => Err(ConfigError::value(place, knob, &given)),
        }
    }

    /// Returns the place of the byte at `offset`.
    fn place(&self, offset: Option<usize>) -> Place {
        let line = offset.map(|offset| {
            let above = &self.text.as_bytes()[..offset.min(self.text.len())];
            1 + above.iter().filter(|byte| **byte == b'\n').count()
        });
        Place::File {
            name: self.name.to_owned(),
            line,
        }
    }
}

/// Tells whether a value of this TOML type may be read as text by `knob`: a path that is written as
/// a number is more likely a mistake than a directory called `5`.
fn accepts(knob: &Knob, value: &DeValue<'_>) -> bool {
    match (knob.shape(), value) {
        (Shape::Text, DeValue::String(_)) => true,
        (Shape::List, DeValue::String(_)) => true,
        (Shape::List, DeValue::Array(items)) => {
            let is_text =
                |item: &Spanned<DeValue<'_>>| matches!(item.get_ref(), DeValue::String(_));
            items.iter().all(is_text)
        }
        (Shape::Size, DeValue::Integer(_) | DeValue::String(_)) => true,
        (Shape::Count, DeValue::Integer(_)) => true,
        (Shape::Ratio, DeValue::Integer(_) | DeValue::Float(_)) => true,
        (Shape::Text | Shape::List | Shape::Size | Shape::Count | Shape::Ratio, _) => false,
    }
}

/// Returns the value as the knob reads it and as an error shows it.
fn shown(value: &DeValue<'_>) -> String {
    match value {
        DeValue::String(text) => text.to_string(),
        DeValue::Integer(integer) => i128::from_str_radix(integer.as_str(), integer.radix())
            .map_or_else(|_| integer.to_string(), |number| number.to_string()),
        DeValue::Float(float) => float.to_string(),
        DeValue::Boolean(truth) => truth.to_string(),
        DeValue::Datetime(datetime) => datetime.to_string(),
        DeValue::Array(items) => {
            let items: Vec<String> = items.iter().map(|item| shown(item.get_ref())).collect();
            items.join(",")
        }
        DeValue::Table(_) => "{...}".to_owned(),
    }
}
