//! Handles, and the tables in which a device keeps what it has given them out for.

use std::marker::PhantomData;
use std::ops::{Index, IndexMut};

/// A number that stands for something on a device. One device's mean nothing to another.
pub trait Handle: Copy {
    /// The handle of the `index`th thing.
    fn new(index: usize) -> Self;

    /// Which thing it is, counted in the order in which handles were given out.
    fn index(self) -> usize;
}

macro_rules! handles {
    ($($(#[$doc:meta])* $name:ident;)*) => {$(
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub struct $name(u32);

        impl Handle for $name {
            fn new(index: usize) -> Self {
                $name(index as u32)
            }

            fn index(self) -> usize {
                self.0 as usize
            }
        }
    )*};
}

handles! {
    /// A weight matrix on the device.
    MatrixId;
    /// A vector of weights (a norm's scale or shift) on the device.
    VectorId;
    /// A rotary table on the device.
    RopeId;
    /// A planned activation buffer `[rows, width]` of f32.
    BufferId;
}

/// What a device has given out handles for.
#[derive(Debug)]
pub struct Table<H, T> {
    things: Vec<T>,
    handles: PhantomData<H>,
}

impl<H, T> Default for Table<H, T> {
    fn default() -> Self {
        Table { things: Vec::new(), handles: PhantomData }
    }
}

impl<H: Handle, T> Table<H, T> {
    /// Takes a thing and gives out its handle.
    pub fn push(&mut self, thing: T) -> H {
        self.things.push(thing);
        H::new(self.things.len() - 1)
    }

    /// All things in the order of their handles.
    pub fn all(&self) -> &[T] {
        &self.things
    }

    /// All things, to be changed.
    pub fn each_mut(&mut self) -> impl Iterator<Item = &mut T> {
        self.things.iter_mut()
    }

    /// The first thing that is as it should be.
    pub(crate) fn position(&self, is_it: impl FnMut(&T) -> bool) -> Option<H> {
        self.things.iter().position(is_it).map(H::new)
    }

    /// Different things, to be used together.
    ///
    /// # Panics
    /// When two handles are the same.
    pub fn together<const N: usize>(&mut self, handles: [H; N]) -> [&mut T; N] {
        self.things.get_disjoint_mut(handles.map(H::index)).expect("an operation's buffers differ")
    }
}

impl<H: Handle, T> Index<H> for Table<H, T> {
    type Output = T;

    fn index(&self, handle: H) -> &T {
        &self.things[handle.index()]
    }
}

impl<H: Handle, T> IndexMut<H> for Table<H, T> {
    fn index_mut(&mut self, handle: H) -> &mut T {
        &mut self.things[handle.index()]
    }
}
