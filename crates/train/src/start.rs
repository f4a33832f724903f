//! A training that begins with an adapter that there is already.

use std::path::Path;

use glimmer_models::{Adapter, LowRankAdapter, PrefixEncoder, PrefixProjection};

use crate::program::Pair;
use crate::{Tape, TrainError, Trainable};

impl Tape {
    /// Gives what is trained the values of an adapter for this model, in any format that is served.
    ///
    /// # Errors
    /// Those of reading; when it is of another kind or shape than what is trained.
    pub fn start_from(&mut self, path: &Path) -> Result<(), TrainError> {
        match self.trainable() {
            Trainable::Full => Err(wrong(
                path,
                "all weights begin with the model's own; fuse the adapter into the model first",
            )),
            Trainable::Prefix(_) => {
                let encoder = PrefixEncoder::open(path, self.spec())?;
                self.start_from_prefix(path, encoder)
            }
            Trainable::LowRank(_) => match Adapter::read(path, self.spec())? {
                Adapter::LowRank(adapter) => self.start_from_pairs(path, &adapter),
                Adapter::Prefix(_) => Err(wrong(path, "a prefix; --prefix trains one")),
            },
        }
    }

    fn start_from_prefix(&mut self, path: &Path, encoder: PrefixEncoder) -> Result<(), TrainError> {
        let shifts = matches!(self.trainable(), Trainable::Prefix(spec) if spec.shifts_positions);
        if encoder.shifts_positions != shifts {
            let whose =
                ["ChatGLM's, which --prefix trains", "PEFT's, which a configuration of PREFIX_TUNING trains"];
            return Err(wrong(
                path,
                &format!("the prefix is {}", whose[usize::from(encoder.shifts_positions)]),
            ));
        }
        let mut values = vec![encoder.embedding];
        if let Some(PrefixProjection { inner, inner_bias, outer, outer_bias }) = encoder.projection {
            values.extend([inner, inner_bias, outer, outer_bias]);
        }
        let fits = |(number, values): (usize, &Vec<f32>)| self.value(number).len() == values.len();
        if values.len() != self.parameters().len() || !values.iter().enumerate().all(fits) {
            let (slots, projects) = (encoder.slots, if values.len() > 1 { "a" } else { "no" });
            return Err(wrong(
                path,
                &format!("the prefix has {slots} slots and {projects} projection; give it the same"),
            ));
        }
        for (number, values) in values.iter().enumerate() {
            self.value_mut(number).copy_from_slice(values);
        }
        Ok(())
    }

    fn start_from_pairs(&mut self, path: &Path, adapter: &LowRankAdapter) -> Result<(), TrainError> {
        let own: Vec<_> =
            self.addressed().into_iter().map(|(address, pair)| (address, pair.clone())).collect();
        if own.len() != adapter.pairs.len() {
            let what = format!(
                "has {} pairs, {} are trained; name its targets and layers",
                adapter.pairs.len(),
                own.len()
            );
            return Err(wrong(path, &what));
        }
        for (address, Pair { a, b, scale, magnitude, .. }) in own {
            let found = adapter.pairs.iter().find(|(other, _)| *other == address).map(|(_, pair)| pair);
            let found = found
                .ok_or_else(|| wrong(path, "is for other weights than are trained; name its targets"))?;
            if found.rank != self.parameters()[a].rows || found.magnitude.is_some() != magnitude.is_some() {
                let kind = if found.magnitude.is_some() { " with --dora" } else { "" };
                return Err(wrong(path, &format!("has rank {}{kind}; train it so", found.rank)));
            }
            self.value_mut(a).copy_from_slice(&found.a);
            // The product stays what it was, whatever alpha is now.
            let factor = found.scale / scale;
            self.value_mut(b).iter_mut().zip(&found.b).for_each(|(value, b)| *value = factor * b);
            if let (Some(number), Some(found)) = (magnitude, &found.magnitude) {
                self.value_mut(number).copy_from_slice(found);
            }
        }
        Ok(())
    }
}

fn wrong(path: &Path, what: &str) -> TrainError {
    TrainError::Start { path: path.to_owned(), what: what.to_owned() }
}
