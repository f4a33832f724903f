//! A record of comma-separated values (RFC 4180): fields may stand in quotation marks, within which two make one.

/// The fields of a record.
///
/// # Errors
/// What is wrong with its quotation marks.
pub(super) fn fields(record: &str) -> Result<Vec<String>, &'static str> {
    let mut fields = vec![String::new()];
    let mut rest = record.chars().peekable();
    let mut quoted = false;
    let mut closed = false;
    while let Some(c) = rest.next() {
        let Some(field) = fields.last_mut() else { break };
        match c {
            '"' if quoted && rest.peek() == Some(&'"') => {
                rest.next();
                field.push('"');
            }
            '"' if quoted => (quoted, closed) = (false, true),
            '"' if field.is_empty() && !closed => quoted = true,
            ',' if !quoted => {
                closed = false;
                fields.push(String::new());
            }
            _ if closed => {
                return Err(
                    "text follows a closing quotation mark; write a quotation mark within a field twice",
                );
            }
            _ => field.push(c),
        }
    }
    if quoted {
        Err("a quotation mark is not closed; write a quotation mark within a field twice")
    } else {
        Ok(fields)
    }
}
