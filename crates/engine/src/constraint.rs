//! What an answer must be, token by token: the engine asks which may come next and tells which one did.

use std::collections::VecDeque;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::worker::guarded;
use crate::{EngineError, Sampler};

/// Rounds in which forced tokens are asked for at once.
const ROUNDS: usize = 2;

/// Which tokens may come next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TokenMask {
    /// All.
    All,
    /// Those whose bit is set: `i % 32` of word `i / 32` for id `i`.
    Only(Vec<u32>),
}

/// What one answer must be. It has seen the answer's tokens so far, and none that were only guessed.
pub trait Constraint: Send {
    /// Which tokens may come next, the ids that end the answer among them where it may end. It may be asked on another
    /// thread than the engine's, while the model computes.
    ///
    /// # Errors
    /// Why none can be told; it ends the request.
    fn mask(&mut self) -> Result<TokenMask, String>;

    /// Takes the next token.
    ///
    /// # Errors
    /// When it may not come next.
    fn accept(&mut self, id: u32) -> Result<(), String>;

    /// The tokens that must come next, as far as that is known without the model; often none. They are not taken yet. An id
    /// that ends the answer, where it can only end.
    ///
    /// # Errors
    /// Why that cannot be told.
    fn forced(&mut self) -> Result<Vec<u32>, String>;
}

/// Makes the constraint of each answer to a request. Two are equal if they are the same one.
#[derive(Clone)]
pub struct ConstraintMaker(Arc<dyn Fn() -> Box<dyn Constraint> + Send + Sync>);

impl ConstraintMaker {
    /// A maker; it is called on the engine's thread and must be quick.
    pub fn new(make: impl Fn() -> Box<dyn Constraint> + Send + Sync + 'static) -> Self {
        ConstraintMaker(Arc::new(make))
    }

    /// The constraint of another answer.
    pub fn make(&self) -> Box<dyn Constraint> {
        (self.0)()
    }
}

impl PartialEq for ConstraintMaker {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl fmt::Debug for ConstraintMaker {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("ConstraintMaker")
    }
}

/// An answer's constraint, and what it has said of the tokens to come.
pub(crate) struct Constrained {
    constraint: Box<dyn Constraint>,
    /// Tokens that the constraint has taken and the answer has not.
    forced: VecDeque<u32>,
    /// Of the token after these.
    mask: Option<Result<TokenMask, EngineError>>,
}

/// The same in the hands of two threads: the engine's, and that which computes masks.
#[derive(Clone)]
pub(crate) struct Shared(Arc<Mutex<Constrained>>);

impl Shared {
    pub(crate) fn new(own: Constrained) -> Self {
        Shared(Arc::new(Mutex::new(own)))
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, Constrained> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Constrained {
    /// The constraint of an answer that begins with the tokens `continued`.
    pub(crate) fn new(maker: &ConstraintMaker, continued: &[u32]) -> Result<Self, EngineError> {
        let mut own = Constrained { constraint: maker.make(), forced: VecDeque::new(), mask: None };
        continued.iter().try_for_each(|&id| own.constraint.accept(id)).map_err(EngineError::Constraint)?;
        own.force()?;
        Ok(own)
    }

    /// The tokens that come next whatever the model computes.
    pub(crate) fn forced(&self) -> &VecDeque<u32> {
        &self.forced
    }

    /// Whether the mask of the token after so many is not known yet.
    pub(crate) fn needs_mask(&self, tokens: usize) -> bool {
        self.forced.len() <= tokens && self.mask.is_none()
    }

    /// Has the mask ready for [`Constrained::choose`], or why there is none.
    pub(crate) fn prepare(&mut self) {
        let constraint = &mut self.constraint;
        self.mask
            .get_or_insert_with(|| guarded(|| constraint.mask().map_err(EngineError::Constraint)).flatten());
    }

    /// The next token, none of the `forbidden` ones where there is another.
    pub(crate) fn choose(
        &mut self,
        sampler: &mut Sampler,
        logits: &[f32],
        forbidden: &[u32],
    ) -> Result<u32, EngineError> {
        if let Some(id) = self.forced.pop_front() {
            sampler.take(id);
            return Ok(id);
        }
        self.prepare();
        let id = match self.mask.take().transpose()? {
            Some(TokenMask::Only(words)) => sampler.next_under(logits, forbidden, &words),
            _ => Some(sampler.next_but(logits, forbidden)),
        };
        let id = id.ok_or_else(|| EngineError::Constraint("no token may come next".to_owned()))?;
        self.constraint.accept(id).map_err(EngineError::Constraint)?;
        self.force()?;
        Ok(id)
    }

    /// Takes the tokens that must come next.
    fn force(&mut self) -> Result<(), EngineError> {
        for _ in 0..ROUNDS {
            let forced = self.constraint.forced().map_err(EngineError::Constraint)?;
            if forced.is_empty() {
                break;
            }
            for id in forced {
                self.constraint.accept(id).map_err(EngineError::Constraint)?;
                self.forced.push_back(id);
            }
        }
        Ok(())
    }
}
