//! The arguments of a call, bound to the names of what is called.

use super::Error;
use super::value::{Text, Value};

/// Evaluated arguments.
#[derive(Debug, Default)]
pub(super) struct Arguments {
    pub(super) positional: Vec<Value>,
    pub(super) named: Vec<(String, Value)>,
}

impl Arguments {
    /// The arguments in the order of these parameter names; what was not given is `None`.
    pub(super) fn bind<const N: usize>(
        self,
        what: &str,
        names: [&str; N],
    ) -> Result<[Option<Value>; N], Error> {
        if self.positional.len() > N {
            return Err(Error::value(format!("{what} takes at most {N} arguments")));
        }
        let mut bound = [const { None }; N];
        for (slot, value) in bound.iter_mut().zip(self.positional) {
            *slot = Some(value);
        }
        for (name, value) in self.named {
            match names.iter().position(|n| *n == name) {
                Some(i) if bound[i].is_none() => bound[i] = Some(value),
                Some(_) => return Err(Error::value(format!("{what} was given `{name}` twice"))),
                None => return Err(Error::value(format!("{what} takes no argument `{name}`"))),
            }
        }
        Ok(bound)
    }

    /// No arguments at all.
    pub(super) fn none(self, what: &str) -> Result<(), Error> {
        self.bind::<0>(what, []).map(|_| ())
    }
}

/// A text argument.
pub(super) fn text(what: &str, value: Option<Value>) -> Result<Text, Error> {
    match value {
        Some(Value::Str(text)) => Ok(text),
        Some(other) => Err(Error::value(format!("{what} takes a str, not a value of kind {}", other.kind()))),
        None => Err(Error::value(format!("{what} takes a str"))),
    }
}

/// A text argument that may be left out or `None`.
pub(super) fn optional_text(what: &str, value: Option<Value>) -> Result<Option<Text>, Error> {
    match value {
        None | Some(Value::None) => Ok(None),
        given => text(what, given).map(Some),
    }
}

/// A whole number that may be left out or `None`.
pub(super) fn optional_int(what: &str, value: Option<Value>) -> Result<Option<i128>, Error> {
    match value {
        None | Some(Value::None) => Ok(None),
        Some(Value::Int(int)) => Ok(Some(int)),
        Some(Value::Bool(b)) => Ok(Some(i128::from(b))),
        Some(other) => {
            Err(Error::value(format!("{what} takes an int, not a value of kind {}", other.kind())))
        }
    }
}
