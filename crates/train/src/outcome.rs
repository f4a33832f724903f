//! What was trained, as the files from which it is served.

use std::path::Path;

use glimmer::{Error, ModelFiles};
use glimmer_checkpoint::safetensors::SafetensorsWriter;
use glimmer_models::export::{Outgoing, TensorKind, config_json, directory_naming, outgoing, rows_of};
use glimmer_models::names::TensorNaming;
use glimmer_models::{
    LowRank, LowRankAdapter, PartKind, PeftSettings, PrefixEncoder, PrefixProjection, WeightAddress,
};

use glimmer_tensor::DType;

use crate::prefix::PrefixTensors;
use crate::program::{MatrixKind, Pair};
use crate::{Tape, TrainError, Trainable};

impl Tape {
    /// The low-rank pairs, each with its weight.
    #[must_use]
    pub fn low_rank(&self) -> LowRankAdapter {
        LowRankAdapter {
            pairs: self.addressed().into_iter().map(|(address, pair)| (address, self.pair(pair))).collect(),
        }
    }

    /// The program's pairs, each with its weight.
    pub(crate) fn addressed(&self) -> Vec<(WeightAddress, &Pair)> {
        let program = &self.machine.program;
        let parts = program.parts.iter().filter_map(|part| match &part.kind {
            PartKind::Matrix(matrix) => Some((part, matrix)),
            PartKind::Norm(..) | PartKind::Vector(_) => None,
        });
        let mut pairs = Vec::new();
        for (matrix, (part, shape)) in program.matrices.iter().zip(parts) {
            for pair in &matrix.pairs {
                // The whole weight, or the section that has these rows.
                let mut first = 0;
                let sections = shape.sections.iter().map(|&(role, rows)| {
                    first += rows;
                    (role, first - rows..first)
                });
                let is_whole = pair.rows.len() == matrix.rows;
                let section = sections.filter(|(_, rows)| !is_whole && *rows == pair.rows).last();
                let role = section.map_or(part.role, |(role, _)| role);
                pairs.push((WeightAddress { layer: part.layer, role }, pair));
            }
        }
        pairs
    }

    fn pair(&self, pair: &Pair) -> LowRank {
        LowRank {
            rank: self.parameters()[pair.a].rows,
            a: self.value(pair.a).to_vec(),
            b: self.value(pair.b).to_vec(),
            scale: pair.scale,
            magnitude: pair.magnitude.map(|tensor| self.value(tensor).to_vec()),
        }
    }

    /// What the prefix is computed from, where one is trained.
    #[must_use]
    pub fn prefix_encoder(&self) -> Option<PrefixEncoder> {
        let PrefixTensors { embedding, projection } = self.machine.prefix.as_ref()?.tensors();
        let values = |tensor: usize| self.value(tensor).to_vec();
        let projection = projection.map(|projection| PrefixProjection {
            inner: values(projection.inner),
            inner_bias: values(projection.inner_bias),
            outer: values(projection.outer),
            outer_bias: values(projection.outer_bias),
        });
        Some(PrefixEncoder {
            slots: self.parameters()[embedding].rows,
            shifts_positions: matches!(self.trainable(), Trainable::Prefix(spec) if spec.shifts_positions),
            embedding: values(embedding),
            projection,
        })
    }

    /// Writes the adapter into a directory: low-rank pairs in PEFT's format, a prefix in ChatGLM's, or in PEFT's
    /// where its positions are. Where all weights are
    /// trained there is none.
    ///
    /// # Errors
    /// When the system refuses, or the layout has no name for a weight.
    pub fn write_adapter(&self, files: &ModelFiles, directory: &Path) -> Result<(), TrainError> {
        if let Trainable::LowRank(low_rank) = self.trainable() {
            let settings = PeftSettings {
                naming: files.understood()?.naming,
                base: files.source().name(),
                dropout: low_rank.dropout.into(),
                use_rslora: low_rank.by_root,
            };
            self.low_rank().write(directory, files.spec()?, &settings)?;
        }
        if let Some(encoder) = self.prefix_encoder() {
            encoder.write(directory, files.spec()?, &files.source().name())?;
        }
        Ok(())
    }

    /// Writes all weights, where they are trained, as a model in F32 in Hugging Face layout, which takes the place of what
    /// is at `directory`. Files with these names and bytes go `along`.
    ///
    /// # Errors
    /// When the system refuses, or the layout has no place for a weight.
    pub fn write_model(
        &self,
        files: &ModelFiles,
        along: &[(&str, Vec<u8>)],
        directory: &Path,
    ) -> Result<(), TrainError> {
        const SHARD: u64 = 5_000_000_000;
        let (checkpoint, understood) = (files.checkpoint()?, files.understood()?);
        let naming = directory_naming(&understood.spec);
        let (tensors, _) = outgoing(checkpoint, understood, naming)?;
        let announced: Vec<_> = tensors.iter().map(|tensor| tensor.announce(DType::F32)).collect();
        let mut model = SafetensorsWriter::replace(directory, &announced, SHARD).map_err(Error::from)?;
        let config = config_json(checkpoint, understood, &tensors, DType::F32);
        model.add_file("config.json", format!("{config:#}\n").as_bytes()).map_err(Error::from)?;
        for (name, bytes) in along {
            model.add_file(name, bytes).map_err(Error::from)?;
        }
        for tensor in &tensors {
            for values in self.trained_rows(tensor, naming) {
                for values in values.chunks(1 << 16) {
                    let bytes: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
                    model.write(&tensor.name, &bytes).map_err(Error::from)?;
                }
            }
        }
        Ok(model.finish().map_err(Error::from)?)
    }

    /// The trained values of a tensor of a layout, in its order.
    fn trained_rows(&self, tensor: &Outgoing<'_>, naming: TensorNaming) -> Vec<&[f32]> {
        let program = &self.machine.program;
        let (mut matrices, mut vectors) = (program.matrices.iter(), program.vectors.iter());
        for part in &program.parts {
            // In the order of the parts, as they were loaded.
            match &part.kind {
                PartKind::Vector(_) => {
                    vectors.next();
                }
                PartKind::Norm(norm, _) => {
                    let own: Vec<_> = vectors.by_ref().take(norm.vectors().len()).collect();
                    let number = usize::from(tensor.kind == TensorKind::Shift);
                    if part.layer == tensor.layer && part.role == tensor.role {
                        return own
                            .get(number)
                            .and_then(|v| v.tensor)
                            .map(|t| self.value(t))
                            .into_iter()
                            .collect();
                    }
                }
                PartKind::Matrix(shape) => {
                    let matrix = matrices.next();
                    let (true, Some(rows)) = (part.layer == tensor.layer, rows_of(part, tensor.role, naming))
                    else {
                        continue;
                    };
                    let Some(MatrixKind::Trained { weight, bias }) = matrix.map(|matrix| matrix.kind) else {
                        continue;
                    };
                    let (number, width) = match (tensor.kind, bias) {
                        (TensorKind::Shift, Some(bias)) => (bias, 1),
                        _ => (weight, shape.cols),
                    };
                    let values = self.value(number);
                    return rows
                        .into_iter()
                        .map(|rows| &values[rows.start * width..rows.end * width])
                        .collect();
                }
            }
        }
        Vec::new()
    }
}
