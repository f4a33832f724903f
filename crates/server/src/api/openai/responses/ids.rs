//! Ids of responses and of their items: an item's says which response it is in and where.

/// The place of the first input item; before it are those of the answer.
const INPUT: usize = 1 << 31;

/// The id of a response.
pub(crate) fn response(number: u64) -> String {
    format!("resp_{number:016x}")
}

/// The number of a response, if this is the id of one.
pub(crate) fn response_number(id: &str) -> Option<u64> {
    number(id.strip_prefix("resp_")?)
}

/// The id of the `at`th item of a response's answer.
pub(crate) fn output_item(prefix: &str, response: u64, at: usize) -> String {
    format!("{prefix}_{response:016x}{at:08x}")
}

/// The id of the `at`th item of a response's input, where its client gave none.
pub(crate) fn input_item(prefix: &str, response: u64, at: usize) -> String {
    output_item(prefix, response, INPUT + at)
}

/// The number of the response that the item with this id is in, if it was given here.
pub(crate) fn response_of_item(id: &str) -> Option<u64> {
    number(id.split_once('_')?.1.get(..16)?)
}

fn number(digits: &str) -> Option<u64> {
    let is_plain = digits.len() == 16 && digits.bytes().all(|byte| byte.is_ascii_hexdigit());
    is_plain.then(|| u64::from_str_radix(digits, 16).ok()).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_item_says_where_it_is() {
        assert_eq!(response_number(&response(7)), Some(7));
        for id in [output_item("msg", u64::MAX, 0), input_item("fco", u64::MAX, 12)] {
            assert_eq!(response_of_item(&id), Some(u64::MAX));
        }
        assert_ne!(output_item("msg", 1, 0), input_item("msg", 1, 0));
        for id in
            ["", "msg", "msg_", "msg_123", "msg_+00000000000000100000000", "msg_ü000000000000001", "resp_1"]
        {
            assert_eq!((response_of_item(id), response_number(id)), (None, None), "{id}");
        }
    }
}
