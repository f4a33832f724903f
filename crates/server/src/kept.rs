//! Responses that clients name to go on with: in memory, bounded, each for the caller that it was made for. Each holds what was
//! new in it and names the one before, so that a conversation takes what was said in it once.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::task::AbortHandle;

use crate::http::keys::Caller;

/// Bytes that a response takes beside its texts: so their number is bounded, too.
const OVERHEAD: usize = 1024;

/// Bytes that an item takes beside its text.
const ITEM_OVERHEAD: usize = 32;

/// A response that is kept. Texts are JSON.
#[derive(Debug)]
pub(crate) struct KeptResponse {
    /// The response before.
    pub(crate) previous: Option<u64>,
    /// The response's object without its output.
    pub(crate) head: Box<str>,
    /// What was new in what was asked.
    pub(crate) input: Vec<Arc<str>>,
    /// What was said.
    pub(crate) output: Vec<Arc<str>>,
}

impl KeptResponse {
    /// Bytes that it is taken to hold.
    pub(crate) fn bytes(&self) -> usize {
        let items = self.input.iter().chain(&self.output).map(|item| item.len() + ITEM_OVERHEAD);
        OVERHEAD + self.head.len() + items.sum::<usize>()
    }
}

/// Who makes a response that is not there yet: ended when nobody can ask for it any more.
#[derive(Debug)]
struct Maker(AbortHandle);

impl Drop for Maker {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Why a conversation cannot be gone on with.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Broken {
    /// This response is not there: it never was, was deleted or let go of.
    Missing(u64),
    /// This one is being made.
    Unfinished(u64),
    /// It is longer than so many bytes.
    TooLong(usize),
}

/// All of them.
pub(crate) struct Kept {
    most: usize,
    shelf: Mutex<Shelf>,
}

/// A response is known by whose it is and its number.
pub(crate) type Name = (Caller, u64);

#[derive(Default)]
struct Shelf {
    responses: HashMap<Name, Place>,
    /// By when they were used last.
    order: BTreeMap<u64, Name>,
    bytes: usize,
    /// Uses so far.
    uses: u64,
    /// Those that are being made.
    unfinished: usize,
}

struct Place {
    response: Arc<KeptResponse>,
    used: u64,
    maker: Option<Maker>,
}

impl Kept {
    /// With room for so many bytes.
    pub(crate) fn new(most: usize) -> Self {
        Kept { most, shelf: Mutex::default() }
    }

    fn shelf(&self) -> MutexGuard<'_, Shelf> {
        self.shelf.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Keeps a response. Where there is no room others go, those first that were used longest ago.
    pub(crate) fn put(&self, name: Name, response: KeptResponse) {
        self.shelf().put(name, Arc::new(response), None, self.most);
    }

    /// Whether there is room for it when all others go.
    pub(crate) fn has_room(&self, response: &KeptResponse) -> bool {
        response.bytes() <= self.most
    }

    /// Keeps a response that is being made from here on by what `make` starts; false where `most` are being made
    /// already, or there is no room.
    pub(crate) fn begin(
        &self,
        name: Name,
        response: KeptResponse,
        most: usize,
        make: impl FnOnce() -> AbortHandle,
    ) -> bool {
        let mut shelf = self.shelf();
        if shelf.unfinished >= most {
            return false;
        }
        shelf.put(name, Arc::new(response), Some(Maker(make())), self.most);
        shelf.responses.contains_key(&name)
    }

    /// Puts a response that was made in the place of the one that was begun, if that is still wanted.
    pub(crate) fn finish(&self, name: Name, response: KeptResponse) {
        let mut shelf = self.shelf();
        if shelf.responses.get(&name).is_some_and(|place| place.maker.is_some()) {
            shelf.put(name, Arc::new(response), None, self.most);
        }
    }

    /// A response, and whether it is being made.
    pub(crate) fn get(&self, name: Name) -> Option<(Arc<KeptResponse>, bool)> {
        let mut shelf = self.shelf();
        shelf.touch(&name);
        let place = shelf.responses.get(&name)?;
        Some((place.response.clone(), place.maker.is_some()))
    }

    /// Forgets a response, and ends its making; false where there is none.
    pub(crate) fn remove(&self, name: Name) -> bool {
        self.shelf().remove(&name).is_some()
    }

    /// The responses of a conversation to its latest, in order, if they take no more than so many bytes; with `cuts` the latest of
    /// them that do.
    pub(crate) fn conversation(
        &self,
        (caller, latest): Name,
        most: usize,
        cuts: bool,
    ) -> Result<Vec<Arc<KeptResponse>>, Broken> {
        let mut shelf = self.shelf();
        let (mut responses, mut bytes, mut next) = (Vec::new(), 0_usize, Some(latest));
        while let Some(id) = next {
            let place = shelf.responses.get(&(caller, id)).ok_or(Broken::Missing(id))?;
            if place.maker.is_some() {
                return Err(Broken::Unfinished(id));
            }
            let response = place.response.clone();
            bytes += response.bytes();
            if bytes > most {
                if cuts {
                    break;
                }
                return Err(Broken::TooLong(most));
            }
            next = response.previous;
            responses.push(response);
            shelf.touch(&(caller, id));
        }
        responses.reverse();
        Ok(responses)
    }

    /// How many there are, and their bytes.
    #[cfg(test)]
    fn size(&self) -> (usize, usize) {
        let shelf = self.shelf();
        (shelf.responses.len(), shelf.bytes)
    }
}

impl Shelf {
    fn put(&mut self, name: Name, response: Arc<KeptResponse>, maker: Option<Maker>, most: usize) {
        self.remove(&name);
        let bytes = response.bytes();
        if bytes > most {
            return;
        }
        while self.bytes + bytes > most
            && let Some((_, &oldest)) = self.order.first_key_value()
        {
            self.remove(&oldest);
        }
        self.bytes += bytes;
        self.unfinished += usize::from(maker.is_some());
        self.uses += 1;
        self.order.insert(self.uses, name);
        self.responses.insert(name, Place { response, used: self.uses, maker });
    }

    fn remove(&mut self, name: &Name) -> Option<()> {
        let place = self.responses.remove(name)?;
        self.order.remove(&place.used);
        self.bytes -= place.response.bytes();
        self.unfinished -= usize::from(place.maker.is_some());
        Some(())
    }

    fn touch(&mut self, name: &Name) {
        let Some(place) = self.responses.get_mut(name) else { return };
        self.order.remove(&place.used);
        self.uses += 1;
        place.used = self.uses;
        self.order.insert(self.uses, *name);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mine() -> Caller {
        Caller::of(b"mine")
    }

    fn response(previous: Option<u64>, text: &str) -> KeptResponse {
        let items = vec![Arc::from(text)];
        KeptResponse { previous, head: "{}".into(), input: items.clone(), output: items }
    }

    #[test]
    fn a_hundred_thousand_turns_take_what_was_said_in_them_once() {
        let text = "x".repeat(100);
        let each = response(None, &text).bytes();
        let turns = 100_000;
        let kept = Kept::new(each * turns);
        for turn in 0..turns as u64 {
            kept.put((mine(), turn), response(turn.checked_sub(1), &text));
        }
        assert_eq!(kept.size(), (turns, each * turns));
        let latest = turns as u64 - 1;
        let all = kept.conversation((mine(), latest), usize::MAX, false).unwrap();
        assert_eq!((all.len(), all[0].previous, all[1].previous), (turns, None, Some(0)));
        assert_eq!(
            kept.conversation((mine(), latest), each * 3, false).unwrap_err(),
            Broken::TooLong(each * 3)
        );
        assert_eq!(kept.conversation((mine(), latest), each * 3, true).unwrap().len(), 3);
        // With room for a part of them the others are let go of, and with them what began there.
        let kept = Kept::new(each * 1000);
        for turn in 0..turns as u64 {
            kept.put((mine(), turn), response(turn.checked_sub(1), &text));
            assert!(kept.size().1 <= each * 1000);
        }
        assert_eq!(kept.size(), (1000, each * 1000));
        assert_eq!(
            kept.conversation((mine(), latest), usize::MAX, false).unwrap_err(),
            Broken::Missing(latest - 1000)
        );
    }

    #[test]
    fn what_was_used_longest_ago_goes_first() {
        let each = response(None, "").bytes();
        let kept = Kept::new(each * 3);
        kept.put((mine(), 1), response(None, ""));
        kept.put((mine(), 2), response(Some(1), ""));
        kept.put((mine(), 3), response(None, ""));
        // To go on with the second is to use the first.
        assert_eq!(kept.conversation((mine(), 2), usize::MAX, false).unwrap().len(), 2);
        kept.put((mine(), 4), response(None, ""));
        assert!(
            kept.get((mine(), 3)).is_none()
                && kept.get((mine(), 1)).is_some()
                && kept.get((mine(), 2)).is_some()
        );
        // What is larger than all room is not kept.
        kept.put((mine(), 5), response(None, &"x".repeat(each * 3)));
        assert!(kept.get((mine(), 5)).is_none());
        assert!(kept.remove((mine(), 1)) && !kept.remove((mine(), 1)));
    }

    #[test]
    fn nothing_is_anothers() {
        let kept = Kept::new(usize::MAX);
        let other = Caller::of(b"other");
        kept.put((mine(), 1), response(None, "mine"));
        assert!(kept.get((other, 1)).is_none() && !kept.remove((other, 1)));
        assert_eq!(kept.conversation((other, 1), usize::MAX, false).unwrap_err(), Broken::Missing(1));
        kept.put((other, 1), response(None, "other"));
        assert_eq!(&*kept.get((mine(), 1)).unwrap().0.input[0], "mine");
        assert_eq!(&*kept.get((other, 1)).unwrap().0.input[0], "other");
    }

    #[tokio::test]
    async fn what_nobody_can_ask_for_is_not_made() {
        let kept = Kept::new(usize::MAX);
        let begin = |id: u64| {
            let task = tokio::spawn(std::future::pending::<()>());
            let handle = task.abort_handle();
            assert!(kept.begin((mine(), id), response(None, ""), 2, || handle));
            task
        };
        let (one, two) = (begin(1), begin(2));
        assert!(!kept.begin((mine(), 3), response(None, ""), 2, || unreachable!("there are too many")));
        assert_eq!(kept.conversation((mine(), 1), usize::MAX, false).unwrap_err(), Broken::Unfinished(1));
        assert!(kept.get((mine(), 1)).unwrap().1);
        kept.remove((mine(), 1));
        assert!(one.await.unwrap_err().is_cancelled());
        kept.finish((mine(), 2), response(None, "made"));
        assert!(two.await.unwrap_err().is_cancelled());
        let (made, is_unfinished) = kept.get((mine(), 2)).unwrap();
        assert_eq!((&*made.output[0], is_unfinished), ("made", false));
        // Neither is made again.
        kept.finish((mine(), 1), response(None, "late"));
        assert!(kept.get((mine(), 1)).is_none());
    }
}
