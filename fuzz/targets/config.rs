//! The configuration file: any text is a configuration or an error of one line, and what a
//! configuration shows of itself makes the same configuration.
#![no_main]

use ashlar_node::config::{Config, Overrides};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    match Config::parse(text, "file") {
        Err(error) => {
            let line = error.to_string();
            assert!(!line.is_empty() && !line.contains(['\n', '\r']), "{line:?}");
        }
        Ok(config) => {
            let entries = config.entries();
            let mut again = Config::defaults();
            // A flag cannot say that a value has blanks around it; a file can.
            if entries.iter().any(|(_, value)| value.trim() != value) {
                return;
            }
            let set = entries.iter().map(|(key, value)| format!("{key}={value}"));
            let overrides = Overrides {
                set: set.collect(),
                ..Overrides::default()
            };
            again
                .override_with(&overrides)
                .unwrap_or_else(|error| panic!("what is shown is not taken back: {error}"));
            assert_eq!(again.entries(), entries);
            let _ = config.warnings();
        }
    }
});
