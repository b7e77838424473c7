//! Writes what was set while the node runs into the text of its file. Comments, order and what was not changed stay as
//! they are. Pure.

use toml_edit::{DocumentMut, Item, Table, TableLike, value};

use super::knob::{Change, Knob, Shape};
use super::{Config, ConfigError, KNOBS};

/// Returns `text` with the value of every knob that may change while the node runs and is not what the text says.
///
/// # Errors
/// The text is no configuration any more: somebody has changed the file since the start.
pub(super) fn rewritten(config: &Config, text: &str, name: &str) -> Result<String, ConfigError> {
    let said = Config::parse(text, name)?;
    let mut document: DocumentMut = text
        .parse()
        .expect("it is the TOML that was parsed a moment ago");
    let running = KNOBS.iter().filter(|knob| knob.change() == Change::Running);
    for knob in running.filter(|knob| knob.show(config) != knob.show(&said)) {
        put(&mut document, knob, &knob.show(config));
    }
    Ok(document.to_string())
}

/// Puts a value in its place; what stood behind the old one as a comment stays.
fn put(document: &mut DocumentMut, knob: &Knob, shown: &str) {
    let table: &mut dyn TableLike = match knob.table() {
        "" => document.as_table_mut(),
        name => document
            .entry(name)
            .or_insert(Item::Table(Table::new()))
            .as_table_like_mut()
            .expect("it was parsed as a table"),
    };
    let mut item = match knob.shape() {
        Shape::Size | Shape::Count => value(shown.parse::<i64>().unwrap_or(i64::MAX)),
        Shape::Ratio => value(shown.parse::<f64>().unwrap_or(0.0)),
        Shape::Text | Shape::List => value(shown),
    };
    if let (Some(before), Some(after)) = (
        table.get(knob.leaf()).and_then(Item::as_value),
        item.as_value_mut(),
    ) {
        *after.decor_mut() = before.decor().clone();
    }
    table.insert(knob.leaf(), item);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_set_is_written_and_all_else_stays() {
        let text = "# ours\nlisten = \"127.0.0.1:7000\"\n\n[io] # ring\nstall_ms = 7 # said why\nspin_us_max = 3\n";
        let mut config = Config::parse(text, "file").unwrap();
        assert_eq!(rewritten(&config, text, "file").unwrap(), text);
        config.set("io.stall_ms", "9").unwrap();
        config.set("client.password", "it's \"secret\"").unwrap();
        config.set("client.value_bytes_max", "1MiB").unwrap();
        config.set("partition.space_ratio", "1.5").unwrap();
        let written = rewritten(&config, text, "file").unwrap();
        assert!(written.starts_with("# ours\nlisten = \"127.0.0.1:7000\"\n\n[io] # ring\nstall_ms = 9 # said why\nspin_us_max = 3\n"), "{written}");
        assert_eq!(Config::parse(&written, "file").unwrap(), config);
        // What flags have said is not the file's.
        config.listen = "127.0.0.1:1".parse().unwrap();
        assert_eq!(rewritten(&config, &written, "file").unwrap(), written);
        assert!(rewritten(&config, "nope = 1", "file").is_err());
    }
}
