//! What comes with the plan, and the steps that are under way.

use crate::{DeviceError, Place};
use std::ops::{Deref, DerefMut, Index};

/// What [`crate::Device::plan`] makes and everything later uses.
#[derive(Debug)]
pub struct Planned<T>(Option<T>);

impl<T> Default for Planned<T> {
    fn default() -> Self {
        Planned(None)
    }
}

impl<T> Planned<T> {
    /// The plan was made.
    pub fn set(&mut self, made: T) {
        self.0 = Some(made);
    }

    /// What was made, if a plan was.
    pub fn get(&self) -> Option<&T> {
        self.0.as_ref()
    }
}

/// # Panics
/// Before the plan.
impl<T> Deref for Planned<T> {
    type Target = T;

    fn deref(&self) -> &T {
        self.0.as_ref().expect("plan() comes before any step")
    }
}

impl<T> DerefMut for Planned<T> {
    fn deref_mut(&mut self) -> &mut T {
        self.0.as_mut().expect("plan() comes before any step")
    }
}

/// An uploaded [`crate::Batch`]. It stays valid until the second [`crate::Device::upload`] after its own, so that the next
/// step can be prepared while this one runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DeviceBatch(u32);

/// The two steps that a device has at a time, as it keeps them, each with its first failed check.
#[derive(Debug)]
pub struct Steps<S> {
    steps: [S; 2],
    not_finite: [Option<DeviceError>; 2],
    /// How many there have been.
    uploads: u32,
}

impl<S> Steps<S> {
    /// Room for two.
    pub fn new(steps: [S; 2]) -> Self {
        Steps { steps, not_finite: [None, None], uploads: 0 }
    }

    /// Puts a step where the one before the last was; `load` fills it. Checks of that one are forgotten.
    ///
    /// # Errors
    /// Those of `load`; there is no new step then.
    pub fn upload<E>(&mut self, load: impl FnOnce(&mut S) -> Result<(), E>) -> Result<DeviceBatch, E> {
        let batch = DeviceBatch(self.uploads);
        let at = self.uploads as usize % 2;
        load(&mut self.steps[at])?;
        self.not_finite[at] = None;
        self.uploads = self.uploads.wrapping_add(1);
        Ok(batch)
    }

    /// Remembers a value that is not finite, if it is the step's first.
    ///
    /// # Panics
    /// When the step is no longer there.
    pub fn note_not_finite(&mut self, batch: DeviceBatch, place: Place, value: f32) {
        let at = self.at(batch);
        self.not_finite[at].get_or_insert_with(|| DeviceError::NotFinite { place, value: value.to_string() });
    }

    /// Reports, once, the first value of the step that was not finite.
    ///
    /// # Errors
    /// [`DeviceError::NotFinite`].
    ///
    /// # Panics
    /// When the step is no longer there.
    pub fn report(&mut self, batch: DeviceBatch) -> Result<(), DeviceError> {
        let at = self.at(batch);
        self.not_finite[at].take().map_or(Ok(()), Err)
    }

    /// Both of them, in no order.
    pub fn both(&self) -> &[S; 2] {
        &self.steps
    }

    fn at(&self, batch: DeviceBatch) -> usize {
        let since = self.uploads.wrapping_sub(batch.0);
        assert!(matches!(since, 1 | 2), "a batch is used until the second upload after its own");
        batch.0 as usize % 2
    }
}

/// # Panics
/// When the step is no longer there.
impl<S> Index<DeviceBatch> for Steps<S> {
    type Output = S;

    fn index(&self, batch: DeviceBatch) -> &S {
        &self.steps[self.at(batch)]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_step_lasts_until_the_second_upload_after_it_and_keeps_its_own_check() {
        let mut steps = Steps::new([0, 0]);
        let load = |value| {
            move |step: &mut i32| {
                *step = value;
                Ok::<_, DeviceError>(())
            }
        };
        let first = steps.upload(load(1)).unwrap();
        let second = steps.upload(load(2)).unwrap();
        steps.note_not_finite(first, Place::Attention(3), f32::INFINITY);
        steps.note_not_finite(first, Place::Logits, f32::NAN);
        assert_eq!((steps[first], steps[second]), (1, 2));
        assert_eq!(steps.report(second), Ok(()), "another step's check is none of its own");
        let error = DeviceError::NotFinite { place: Place::Attention(3), value: "inf".to_owned() };
        assert_eq!(steps.report(first), Err(error));
        assert_eq!(steps.report(first), Ok(()), "it is told once");

        steps.note_not_finite(second, Place::Embedding, f32::NAN);
        let refused = steps.upload(|_| Err(DeviceError::Failed("full".to_owned())));
        assert!(refused.is_err());
        assert_eq!((steps[first], steps[second]), (1, 2), "what was refused took nobody's place");
        steps.upload(load(3)).unwrap();
        let fourth = steps.upload(load(4)).unwrap();
        assert_eq!(steps[fourth], 4);
        assert_eq!(steps.report(fourth), Ok(()), "an abandoned step's check went with it");
        let stale = std::panic::catch_unwind(|| steps[second]);
        assert!(stale.is_err());
    }
}
