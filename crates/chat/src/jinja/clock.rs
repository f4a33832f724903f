//! `strftime_now`: today's date for templates that tell the model. The clock is UTC's.

use super::Error;
use std::fmt::Write as _;
use std::time::{SystemTime, UNIX_EPOCH};

const DAYS: [&str; 7] = ["Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday"];
const MONTHS: [&str; 12] = [
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
];

/// `datetime.now().strftime(format)`.
pub(super) fn strftime_now(format: &str) -> Result<String, Error> {
    let seconds = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_secs());
    strftime(format, seconds)
}

/// The time so many seconds after 1970 began, in the given format.
fn strftime(format: &str, seconds: u64) -> Result<String, Error> {
    let days = (seconds / 86_400) as i64;
    let (hour, minute, second) = (seconds / 3600 % 24, seconds / 60 % 60, seconds % 60);
    let (year, month, day) = civil(days);
    let weekday = (days + 3).rem_euclid(7);
    let hour12 = if hour % 12 == 0 { 12 } else { hour % 12 };
    let day_of_year = days - days_before_year(year) + 1;
    let mut out = String::new();
    let mut chars = format.chars();
    while let Some(c) = chars.next() {
        if c != '%' {
            out.push(c);
            continue;
        }
        let mut code = chars.next();
        let unpadded = code == Some('-');
        if unpadded {
            code = chars.next();
        }
        let width = if unpadded { 1 } else { 2 };
        let name = |names: &[&'static str], at: i64| names[at as usize];
        let _ = match code {
            Some('Y') => write!(out, "{year}"),
            Some('y') => write!(out, "{:02}", year % 100),
            Some('m') => write!(out, "{month:0width$}"),
            Some('d') => write!(out, "{day:0width$}"),
            Some('e') => write!(out, "{day:2}"),
            Some('j') if unpadded => write!(out, "{day_of_year}"),
            Some('j') => write!(out, "{day_of_year:03}"),
            Some('H') => write!(out, "{hour:0width$}"),
            Some('I') => write!(out, "{hour12:0width$}"),
            Some('M') => write!(out, "{minute:0width$}"),
            Some('S') => write!(out, "{second:0width$}"),
            Some('p') => write!(out, "{}", if hour < 12 { "AM" } else { "PM" }),
            Some('A') => write!(out, "{}", name(&DAYS, weekday)),
            Some('a') => write!(out, "{}", &name(&DAYS, weekday)[..3]),
            Some('B') => write!(out, "{}", name(&MONTHS, month - 1)),
            Some('b' | 'h') => write!(out, "{}", &name(&MONTHS, month - 1)[..3]),
            Some('F') => write!(out, "{year}-{month:02}-{day:02}"),
            Some('T') => write!(out, "{hour:02}:{minute:02}:{second:02}"),
            Some('Z') => write!(out, "UTC"),
            Some('z') => write!(out, "+0000"),
            Some('%') => write!(out, "%"),
            other => {
                let shown = other.map(String::from).unwrap_or_default();
                return Err(Error::value(format!("strftime_now does not know %{shown}")));
            }
        };
    }
    Ok(out)
}

/// Year, month and day of the day so many days after 1970 began. Howard Hinnant, "chrono-compatible low-level date
/// algorithms", `civil_from_days`.
fn civil(days: i64) -> (i64, i64, i64) {
    let shifted = days + 719_468;
    let era = shifted.div_euclid(146_097);
    let day_of_era = shifted.rem_euclid(146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 { shifted_month + 3 } else { shifted_month - 9 };
    (year_of_era + era * 400 + i64::from(month <= 2), month, day)
}

/// Days from 1970 to the beginning of the year.
fn days_before_year(year: i64) -> i64 {
    let before = year - 1;
    before * 365 + before.div_euclid(4) - before.div_euclid(100) + before.div_euclid(400) - 719_162
}

#[cfg(test)]
mod tests {
    use super::strftime;

    // As Python's datetime.utcfromtimestamp(t).strftime(f) prints them.
    #[test]
    fn dates_agree_with_python() {
        let shown = |seconds| strftime("%Y-%m-%d %A %d %B %j %H:%M:%S %-d %b %y %I %p", seconds).unwrap();
        assert_eq!(shown(0), "1970-01-01 Thursday 01 January 001 00:00:00 1 Jan 70 12 AM");
        assert_eq!(shown(951_827_696), "2000-02-29 Tuesday 29 February 060 12:34:56 29 Feb 00 12 PM");
        assert_eq!(shown(1_795_183_999), "2026-11-20 Friday 20 November 324 14:13:19 20 Nov 26 02 PM");
        assert!(strftime("%Q", 0).is_err());
    }
}
