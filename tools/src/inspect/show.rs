//! Numbers, keys and times as people read them, one way in all listings.

use ashlar_consensus::Timestamp;

/// Returns the database and the user's key that an internal key is made of.
pub(crate) fn key(key: &[u8]) -> String {
    match key {
        [database, user @ ..] => format!("{database} \"{}\"", user.escape_ascii()),
        [] => "without key".to_owned(),
    }
}

/// Returns a size in the largest unit of which there is one, exactly below 1 KiB.
pub(crate) fn size(bytes: u64) -> String {
    const UNITS: [(&str, u32); 3] = [("GiB", 30), ("MiB", 20), ("KiB", 10)];
    for (unit, shift) in UNITS {
        if bytes >> shift > 0 {
            let tenths = u128::from(bytes) * 10 / (1 << shift);
            return format!("{}.{} {unit}", tenths / 10, tenths % 10);
        }
    }
    format!("{bytes} bytes")
}

/// Returns a version's timestamp, and when that was.
pub(crate) fn timestamp(timestamp: u64) -> String {
    let ms = Timestamp(timestamp).micros() / 1000;
    format!("{timestamp} ({})", utc(ms))
}

/// Returns a time given in milliseconds since 1970, as a date in UTC.
pub(crate) fn utc(ms: u64) -> String {
    let (days, seconds) = (ms / 86_400_000, ms / 1000 % 86_400);
    let (year, month, day) = date(days);
    let (hour, minute, second) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    format!("{year:04}-{month:02}-{day:02} {hour:02}:{minute:02}:{second:02} UTC")
}

/// Returns year, month and day of a day counted from 1970. Years begin in March here, so that the leap day is the last.
fn date(days: u64) -> (u64, u64, u64) {
    const DAYS_OF_400_YEARS: u64 = 146_097;
    // From the first of March of the year 0.
    let since = days + 719_468;
    let of_era = since % DAYS_OF_400_YEARS;
    let year_of_era = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * of_year + 2) / 153;
    let day = of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = (month_from_march + 2) % 12 + 1;
    let year = since / DAYS_OF_400_YEARS * 400 + year_of_era + u64::from(month <= 2);
    (year, month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_those_of_the_calendar() {
        assert_eq!(utc(0), "1970-01-01 00:00:00 UTC");
        assert_eq!(utc(951_782_400_000), "2000-02-29 00:00:00 UTC");
        assert_eq!(utc(951_868_799_999), "2000-02-29 23:59:59 UTC");
        assert_eq!(utc(1_709_251_199_000), "2024-02-29 23:59:59 UTC");
        assert_eq!(utc(4_107_542_400_000), "2100-03-01 00:00:00 UTC");
    }

    #[test]
    fn sizes_have_one_digit_behind_the_point() {
        let sizes = [1023, 1024, 1536, 5 << 20, (3 << 30) + (900 << 20)].map(size);
        assert_eq!(
            sizes,
            ["1023 bytes", "1.0 KiB", "1.5 KiB", "5.0 MiB", "3.8 GiB"]
        );
    }
}
