//! The time of day, and how it is written.

use std::time::{SystemTime, UNIX_EPOCH};

/// Seconds since 1970.
pub(crate) fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_secs())
}

/// `2026-01-31T12:00:00Z`.
pub(crate) fn timestamp(seconds: u64) -> String {
    let (date, time) = date_and_time(seconds);
    format!("{date}T{time}Z")
}

/// `2026-01-31T12:00:00.123456789Z`: the time that it is.
pub(crate) fn precise_now() -> String {
    let time = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let (date, time_of_day) = date_and_time(time.as_secs());
    format!("{date}T{time_of_day}.{:09}Z", time.subsec_nanos())
}

/// Date and time of day in UTC, as `2026-01-31` and `12:00:00`. The date follows Howard Hinnant's `civil_from_days`.
pub(crate) fn date_and_time(seconds: u64) -> (String, String) {
    let days = (seconds / 86_400) as i64 + 719_468;
    let era = days.div_euclid(146_097);
    let day_of_era = days.rem_euclid(146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    let second = seconds % 86_400;
    (
        format!("{year:04}-{month:02}-{day:02}"),
        format!("{:02}:{:02}:{:02}", second / 3600, second / 60 % 60, second % 60),
    )
}

#[cfg(test)]
mod tests {
    #[test]
    fn dates_are_those_of_the_calendar() {
        assert_eq!(super::timestamp(0), "1970-01-01T00:00:00Z");
        assert_eq!(super::timestamp(951_827_696), "2000-02-29T12:34:56Z");
        assert_eq!(super::timestamp(1_798_761_599), "2026-12-31T23:59:59Z");
    }
}
