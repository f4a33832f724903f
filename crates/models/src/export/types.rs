//! Which type each tensor of a GGUF gets.
//!
//! A type's name gives all matrices that type, as `llama-quantize --pure` does; a mix's name follows `llama-quantize`
//! without an importance matrix tensor by tensor. Norms, biases and routers are F32 always. Source: `src/llama-quant.cpp` of
//! llama.cpp (`llama_tensor_get_type_impl`, `tensor_type_fallback`), what of it concerns GLM.

use glimmer_tensor::{DType, Heads};

use super::{Outgoing, TensorKind, has_head};
use crate::{DecoderSpec, WeightRole as Role};

/// The user's wish.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WeightTypes {
    /// As the source has them; ChatGLM's INT8 and INT4, which GGUF does not know, become F16.
    Stored,
    /// One type for all matrices.
    One(DType),
    /// One of `llama-quantize`'s mixes.
    Mix(Mix),
}

/// What weights become that are quantized while they are loaded: the same as [`WeightTypes::One`] makes of them in a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Quantization {
    /// Q4_K for all matrices, the embedding and the head among them; Q5_0 where a row is no multiple of 256.
    FourBit,
    /// Q8_0.
    EightBit,
}

impl Quantization {
    /// The names that users know from other programs.
    pub const NAMES: [(Quantization, &str); 2] =
        [(Quantization::FourBit, "4-bit"), (Quantization::EightBit, "8-bit")];

    /// What `convert` is told to write the same.
    pub fn types(self) -> WeightTypes {
        WeightTypes::One(self.dtype())
    }

    /// The type of matrices.
    pub fn dtype(self) -> DType {
        match self {
            Quantization::FourBit => DType::Q4_K,
            Quantization::EightBit => DType::Q8_0,
        }
    }

    /// The type of a matrix with rows of so many elements.
    pub(crate) fn of_width(self, width: usize) -> DType {
        fit(self.dtype(), width)
    }
}

/// What is to be said where weights of a type become another that both round; `None` where nothing is.
pub fn second_rounding(from: DType, to: DType) -> Option<String> {
    let is_second = from.is_quantized() && to.is_quantized() && from != to;
    is_second.then(|| {
        format!("weights are rounded a second time, from {from} to {to}; better start from F16 or BF16")
    })
}

/// `llama-quantize`'s mixes of K-quants: more bits where they help most.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(non_camel_case_types, missing_docs, reason = "the names are llama.cpp's, known to every user")]
pub enum Mix {
    /// What llama.cpp calls just Q2_K.
    Q2_K_M,
    Q3_K_S,
    Q3_K_M,
    Q3_K_L,
    Q4_K_S,
    Q4_K_M,
    Q5_K_S,
    Q5_K_M,
}

/// The types that can be written, with llama.cpp's number of a file that is mostly of this type (`enum llama_ftype`).
const TYPES: [(DType, u32); 13] = [
    (DType::F32, 0),
    (DType::F16, 1),
    (DType::BF16, 32),
    (DType::Q4_0, 2),
    (DType::Q4_1, 3),
    (DType::Q5_0, 8),
    (DType::Q5_1, 9),
    (DType::Q8_0, 7),
    (DType::Q2_K, 10),
    (DType::Q3_K, 11),
    (DType::Q4_K, 14),
    (DType::Q5_K, 16),
    (DType::Q6_K, 18),
];

/// The types that are read, and written only from bytes that have them already.
const READ_ONLY: [(DType, u32); 2] = [(DType::IQ4_NL, 25), (DType::IQ4_XS, 30)];

/// Name, llama.cpp's number, and the type of what no rule singles out.
const MIXES: [(Mix, &str, u32, DType); 8] = [
    (Mix::Q2_K_M, "Q2_K_M", 10, DType::Q2_K),
    (Mix::Q3_K_S, "Q3_K_S", 11, DType::Q3_K),
    (Mix::Q3_K_M, "Q3_K_M", 12, DType::Q3_K),
    (Mix::Q3_K_L, "Q3_K_L", 13, DType::Q3_K),
    (Mix::Q4_K_S, "Q4_K_S", 14, DType::Q4_K),
    (Mix::Q4_K_M, "Q4_K_M", 15, DType::Q4_K),
    (Mix::Q5_K_S, "Q5_K_S", 16, DType::Q5_K),
    (Mix::Q5_K_M, "Q5_K_M", 17, DType::Q5_K),
];

impl WeightTypes {
    /// Every name that [`WeightTypes::from_name`] takes.
    pub fn names() -> impl Iterator<Item = &'static str> {
        TYPES.iter().map(|(dtype, _)| dtype.name()).chain(MIXES.iter().map(|(_, name, ..)| *name))
    }

    /// The type or mix of this name, in upper or lower case.
    pub fn from_name(name: &str) -> Option<Self> {
        let is = |other: &str| other.eq_ignore_ascii_case(name);
        let one = TYPES.iter().find(|(dtype, _)| is(dtype.name())).map(|(dtype, _)| Self::One(*dtype));
        one.or_else(|| MIXES.iter().find(|(_, other, ..)| is(other)).map(|(mix, ..)| Self::Mix(*mix)))
    }

    /// The type of every tensor in a GGUF, in the tensors' order.
    pub fn choose(self, spec: &DecoderSpec, tensors: &[Outgoing<'_>]) -> Vec<DType> {
        let tied = !has_head(tensors);
        let choose = |tensor: &Outgoing<'_>| match self {
            _ if tensor.kind != TensorKind::Matrix || tensor.role == Role::Router => DType::F32,
            WeightTypes::Stored => match tensor.stored_type() {
                DType::RowI8 | DType::RowI4 => DType::F16,
                stored => stored,
            },
            WeightTypes::One(dtype) => fit(dtype, tensor.width()),
            WeightTypes::Mix(mix) => fit(mix.choose(spec, tensor, tied), tensor.width()),
        };
        tensors.iter().map(choose).collect()
    }

    /// llama.cpp's number for the whole file; of a file with the source's types it is the one of the type that holds
    /// most weights.
    pub fn file_type(self, tensors: &[Outgoing<'_>], chosen: &[DType]) -> u32 {
        let number = |dtype| {
            let row = TYPES.iter().chain(&READ_ONLY).find(|(other, _)| *other == dtype);
            row.map_or(0, |(_, number)| *number)
        };
        match self {
            WeightTypes::One(dtype) => number(dtype),
            WeightTypes::Mix(mix) => mix.row().2,
            WeightTypes::Stored => {
                let weights = |dtype: DType| -> usize {
                    let of = tensors.iter().zip(chosen).filter(|(_, other)| **other == dtype);
                    of.map(|(tensor, _)| tensor.shape.iter().product::<usize>()).sum()
                };
                let most = chosen.iter().copied().max_by_key(|dtype| weights(*dtype)).unwrap_or(DType::F32);
                number(most)
            }
        }
    }
}

/// The name of a file of this number of llama.cpp's (`general.file_type`).
pub fn file_type_name(number: u32) -> Option<&'static str> {
    let types = TYPES.iter().chain(&READ_ONLY).map(|(dtype, number)| (*number, dtype.name()));
    let mut all = types.chain(MIXES.iter().map(|(_, name, number, _)| (*number, *name)));
    all.find(|(other, _)| *other == number).map(|(_, name)| name)
}

impl Mix {
    fn row(self) -> &'static (Mix, &'static str, u32, DType) {
        MIXES.iter().find(|row| row.0 == self).unwrap_or(&MIXES[0])
    }

    fn choose(self, spec: &DecoderSpec, tensor: &Outgoing<'_>, tied: bool) -> DType {
        let (i, n) = (tensor.layer.unwrap_or(0), spec.layers.len());
        let base = self.row().3;
        let more_bits = i < n / 8 || i >= 7 * n / 8 || (i - n / 8) % 3 == 2;
        let Heads { heads, kv_heads, .. } = spec.layers[i].attention.heads();
        let role = match tensor.role {
            Role::SharedDown | Role::ExpertDown(_) => Role::FfnDown,
            role => role,
        };
        match (role, self) {
            (Role::Embedding, _) if !tied => base,
            (Role::Embedding | Role::Head, _) if !tensor.width().is_multiple_of(base.block_len()) => {
                DType::Q8_0
            }
            (Role::Embedding | Role::Head, _) => DType::Q6_K,

            (Role::Qkv | Role::Values, Mix::Q2_K_M) if heads / kv_heads >= 4 => DType::Q4_K,
            (Role::Qkv | Role::Values, Mix::Q2_K_M) => DType::Q3_K,
            (Role::Qkv | Role::Values, Mix::Q3_K_M) if i < 2 => DType::Q5_K,
            (Role::Qkv | Role::Values, Mix::Q3_K_M) => DType::Q4_K,
            (Role::Qkv | Role::Values, Mix::Q3_K_L) => DType::Q5_K,
            (Role::Qkv | Role::Values, Mix::Q4_K_S) if i < 4 => DType::Q5_K,
            (Role::Qkv | Role::Values | Role::FfnDown, Mix::Q4_K_M | Mix::Q5_K_M) if more_bits => DType::Q6_K,

            (Role::FfnDown, Mix::Q2_K_M) => DType::Q3_K,
            (Role::FfnDown, Mix::Q3_K_M) if i < n / 16 => DType::Q5_K,
            (Role::FfnDown, Mix::Q3_K_M) => DType::Q4_K,
            (Role::FfnDown, Mix::Q3_K_L) => DType::Q5_K,
            (Role::FfnDown, Mix::Q4_K_S) if i < n / 8 => DType::Q5_K,

            (Role::AttentionOut, Mix::Q2_K_M) => DType::Q3_K,
            (Role::AttentionOut, Mix::Q3_K_M) => DType::Q4_K,
            (Role::AttentionOut, Mix::Q3_K_L) => DType::Q5_K,

            _ => base,
        }
    }
}

/// The type itself where its blocks divide a row, else llama.cpp's substitute with blocks of 32, else F16.
pub(crate) fn fit(dtype: DType, width: usize) -> DType {
    let divides = |dtype: DType| width.is_multiple_of(dtype.block_len());
    let substitute = match dtype {
        _ if divides(dtype) => dtype,
        DType::Q2_K | DType::Q3_K => DType::Q4_0,
        DType::Q4_K => DType::Q5_0,
        DType::Q5_K => DType::Q5_1,
        DType::Q6_K => DType::Q8_0,
        DType::IQ4_XS => DType::IQ4_NL,
        other => other,
    };
    if divides(substitute) { substitute } else { DType::F16 }
}
