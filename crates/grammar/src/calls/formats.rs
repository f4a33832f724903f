//! Formats of texts, as regular expressions that match a text as a whole.

use std::iter::once;

/// Hexadecimal digits of an address, and the two last groups of one.
const GROUP: &str = "[0-9a-fA-F]{1,4}";
const OCTET: &str = "(?:25[0-5]|2[0-4][0-9]|1[0-9]{2}|[1-9]?[0-9])";
/// RFC 1123: labels of at most 63 characters.
const LABEL: &str = "[0-9A-Za-z](?:[0-9A-Za-z-]{0,61}[0-9A-Za-z])?";
/// RFC 3339, with the days that a month has.
const DATE: &str = "(?:[0-9]{4}-(?:(?:0[13578]|1[02])-(?:0[1-9]|[12][0-9]|3[01])|(?:0[469]|11)-(?:0[1-9]|[12][0-9]|30)\
    |02-(?:0[1-9]|1[0-9]|2[0-8]))\
    |(?:[0-9]{2}(?:0[48]|[2468][048]|[13579][26])|(?:[02468][048]|[13579][26])00)-02-29)";
const TIME: &str = "(?:[01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9](?:\\.[0-9]+)?\
    (?:[zZ]|[+-](?:[01][0-9]|2[0-3]):[0-5][0-9])";

/// The texts of a format; none where JSON Schema names no such, which is a note. How long all of an address may be is left
/// out, as on the JSON side: it would be too much together with a pattern.
pub(super) fn regex(name: &str) -> Option<String> {
    Some(match name {
        "date" => DATE.to_owned(),
        "time" => TIME.to_owned(),
        "date-time" => format!("{DATE}[tT]{TIME}"),
        "duration" => duration(),
        "hostname" => format!("{LABEL}(?:\\.{LABEL})*"),
        "email" => email(),
        "ipv4" => ipv4(),
        "ipv6" => ipv6(),
        "uri" => uri(),
        "uuid" => "[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}".to_owned(),
        _ => return None,
    })
}

/// RFC 3339, appendix A.
fn duration() -> String {
    let seconds = "[0-9]+S";
    let minutes = format!("[0-9]+M(?:{seconds})?");
    let hours = format!("[0-9]+H(?:{minutes})?");
    let time = format!("T(?:{hours}|{minutes}|{seconds})");
    let days = "[0-9]+D";
    let months = format!("[0-9]+M(?:{days})?");
    let years = format!("[0-9]+Y(?:{months})?");
    format!("P(?:(?:{years}|{months}|{days})(?:{time})?|{time}|[0-9]+W)")
}

/// RFC 5321's mailbox, without names in quotes.
fn email() -> String {
    let atom = "[0-9A-Za-z!#$%&'*+\\-\\/=?^_`{|}~]+";
    format!("{atom}(?:\\.{atom})*@(?:{LABEL}(?:\\.{LABEL})*|\\[{}\\])", ipv4())
}

fn ipv4() -> String {
    format!("{OCTET}(?:\\.{OCTET}){{3}}")
}

/// RFC 3986: eight groups, of which `::` stands for one or more and the last two may be an IPv4 address.
fn ipv6() -> String {
    let last = |groups: usize| match groups {
        0 => String::new(),
        1 => GROUP.to_owned(),
        _ => format!("(?:{GROUP}:){{{}}}(?:{GROUP}:{GROUP}|{})", groups - 2, ipv4()),
    };
    let shortened = (0..8).map(|after| match after {
        7 => format!("::{}", last(after)),
        _ => format!("(?:{GROUP}(?::{GROUP}){{0,{}}})?::{}", 6 - after, last(after)),
    });
    let all: Vec<String> = once(last(8)).chain(shortened).collect();
    format!("(?:{})", all.join("|"))
}

/// RFC 3986.
fn uri() -> String {
    let plain = "0-9A-Za-z._~!$&'()*+,;=\\-";
    let some = |more: &str| format!("(?:[{plain}{more}]|%[0-9a-fA-F]{{2}})");
    let (piece, segments) = (some(":@"), format!("(?:\\/{}*)*", some(":@")));
    let literal = format!("\\[(?:{}|v[0-9a-fA-F]+\\.[{plain}:]+)\\]", ipv6());
    let authority = format!("(?:{}*@)?(?:{literal}|{}*)(?::[0-9]*)?", some(":"), some(""));
    let path = format!("(?:\\/\\/{authority}{segments}|\\/(?:{piece}+{segments})?|{piece}+{segments}|)");
    let rest = some(":@\\/?");
    format!("[A-Za-z][0-9A-Za-z+.\\-]*:{path}(?:\\?{rest}*)?(?:#{rest}*)?")
}
