//! Many strings in one piece of memory: a vocabulary has a hundred thousand, and an allocation for each would cost more
//! than their text.

/// A list of strings.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Strings {
    /// All of them, one behind the other.
    text: String,
    /// Where in `text` each ends.
    ends: Vec<usize>,
}

impl Strings {
    /// How many there are.
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// The one at `index`.
    pub fn get(&self, index: usize) -> Option<&str> {
        let end = *self.ends.get(index)?;
        let start = if index == 0 { 0 } else { self.ends[index - 1] };
        Some(&self.text[start..end])
    }

    /// All of them in order.
    pub fn iter(&self) -> impl Iterator<Item = &str> {
        let starts = std::iter::once(&0).chain(&self.ends);
        self.ends.iter().zip(starts).map(|(&end, &start)| &self.text[start..end])
    }
}

impl<S: AsRef<str>> FromIterator<S> for Strings {
    fn from_iter<I: IntoIterator<Item = S>>(strings: I) -> Self {
        let mut list = Strings::default();
        for string in strings {
            list.text.push_str(string.as_ref());
            list.ends.push(list.text.len());
        }
        list
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_put_in_comes_out() {
        for strings in [&[][..], &[""], &["a", "", "世界", ""]] {
            let list: Strings = strings.iter().collect();
            assert_eq!(list.iter().collect::<Vec<_>>(), strings);
            assert_eq!((list.len(), list.is_empty()), (strings.len(), strings.is_empty()));
            (0..=strings.len()).for_each(|i| assert_eq!(list.get(i), strings.get(i).copied()));
        }
    }
}
