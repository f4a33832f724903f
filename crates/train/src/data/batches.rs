//! Examples for one batch after another, epoch after epoch, from any position on.

use super::dataset::Dataset;
use super::error::DataError;
use super::order::Order;
use crate::Example;

/// How much a batch takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BatchLimits {
    /// The most examples.
    pub examples: usize,
    /// The most tokens; an example that alone has more is a batch by itself.
    pub tokens: usize,
}

/// Where the next example is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Position {
    /// The epoch, from 0.
    pub epoch: u64,
    /// Rows of it that are done.
    pub rows: u64,
    /// Examples of the next row that are done.
    pub examples: u64,
}

/// A walk through the data that does not end. A batch ends with its epoch; rows that cannot be learned from are passed over.
#[derive(Debug)]
pub struct Batches<'d> {
    data: &'d Dataset<'d>,
    /// The seed of the order; without one it is the file's.
    seed: Option<u64>,
    limits: BatchLimits,
    order: Order,
    position: Position,
    /// The next row's examples that are not done, last first.
    waiting: Vec<Example>,
}

impl<'d> Batches<'d> {
    /// Goes on from a position: the same batches follow as if nobody had stopped there.
    pub fn new(data: &'d Dataset<'d>, seed: Option<u64>, limits: BatchLimits, position: Position) -> Self {
        let mut batches =
            Batches { data, seed, limits, order: Order::of_file(0), position, waiting: Vec::new() };
        batches.order = batches.order_of(position.epoch);
        batches
    }

    /// Where the next batch begins.
    pub fn position(&self) -> Position {
        self.position
    }

    /// The next examples, at least one.
    ///
    /// # Errors
    /// When no row can be learned from, or the file cannot be read any more.
    pub fn next_batch(&mut self) -> Result<Vec<Example>, DataError> {
        let mut batch = Vec::new();
        let mut tokens = 0;
        loop {
            match self.peek()? {
                Some(example) => {
                    let len = example.ids.len();
                    let full =
                        batch.len() >= self.limits.examples.max(1) || tokens + len > self.limits.tokens;
                    if full && !batch.is_empty() {
                        return Ok(batch);
                    }
                    tokens += len;
                    batch.extend(self.take());
                }
                None => {
                    let barren = self.position.rows == self.data.file().len() as u64 && self.is_barren();
                    self.position = Position { epoch: self.position.epoch + 1, ..Position::default() };
                    self.order = self.order_of(self.position.epoch);
                    if !batch.is_empty() {
                        return Ok(batch);
                    }
                    if barren {
                        let why = "no row can be learned from; --dry-run says why".to_owned();
                        return Err(DataError::Whole { path: self.data.file().path().to_owned(), why });
                    }
                }
            }
        }
    }

    /// Whether the epoch that is over had nothing.
    fn is_barren(&self) -> bool {
        (0..self.data.file().len()).all(|row| self.data.render(row).is_err())
    }

    fn order_of(&self, epoch: u64) -> Order {
        let rows = self.data.file().len();
        self.seed.map_or_else(|| Order::of_file(rows), |seed| Order::shuffled(rows, seed, epoch))
    }

    /// The next example of the epoch.
    fn peek(&mut self) -> Result<Option<&Example>, DataError> {
        while self.waiting.is_empty() {
            let Some(row) = self.order.row(self.position.rows as usize) else { return Ok(None) };
            match self.data.render(row) {
                Ok(rendering) => {
                    self.waiting = rendering.examples;
                    self.waiting.reverse();
                    let left = self.waiting.len().saturating_sub(self.position.examples as usize);
                    self.waiting.truncate(left);
                }
                Err(DataError::Row { .. }) => {}
                Err(error) => return Err(error),
            }
            if self.waiting.is_empty() {
                self.position = Position { rows: self.position.rows + 1, examples: 0, ..self.position };
            }
        }
        Ok(self.waiting.last())
    }

    fn take(&mut self) -> Option<Example> {
        let example = self.waiting.pop()?;
        self.position.examples += 1;
        if self.waiting.is_empty() {
            self.position = Position { rows: self.position.rows + 1, examples: 0, ..self.position };
        }
        Some(example)
    }
}
