//! Numbers: the one text of an integer is read, and no other.
#![no_main]

use ashlar_node::number::{DIGITS_MAX, format_i64, parse_i64};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    // Those texts that the standard library reads, and writes in the same way.
    let expected = std::str::from_utf8(data)
        .ok()
        .and_then(|text| text.parse::<i64>().ok())
        .filter(|number| number.to_string().as_bytes() == data);
    assert_eq!(parse_i64(data), expected);
    if let Some(bytes) = data.first_chunk() {
        let number = i64::from_le_bytes(*bytes);
        let mut digits = [0; DIGITS_MAX];
        let text = format_i64(number, &mut digits);
        assert_eq!(text, number.to_string().as_bytes());
        assert_eq!(parse_i64(text), Some(number));
    }
});
