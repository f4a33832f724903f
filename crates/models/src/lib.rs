//! The models: what each generation of GLM is ([`DecoderSpec`]), and the one [`Decoder`] that runs them all.
//!
//! [`Encoder`] makes embeddings beside it, [`CrossEncoder`] scores of pairs. It knows tensors and token ids; nothing of text,
//! requests or training.
#![forbid(unsafe_code)]

mod adapter;
mod catalogue;
mod config;
mod decoder;
mod encoder;
mod error;
pub mod export;
mod load;
mod memory;
pub mod names;
mod parts;
mod positions;
pub mod rope;
mod rotary;
mod spec;
pub mod vision;

pub use adapter::{
    Adapter, Combination, LowRank, LowRankAdapter, PeftSettings, Prefix, PrefixEncoder, PrefixLayer,
    PrefixProjection, WeightAddress,
};
pub use catalogue::{published_config, published_name, published_names};
pub use config::{GGUF_CHATGLM_6B, Understood, understand};
pub use decoder::{Decoder, DeviceHolds, Stage};
pub use encoder::{CrossEncoder, EncodedPair, EncodedText, Encoder, PairModules, Prompts, SentenceModules};
pub use error::ModelError;
pub use glimmer_config::Family;
pub use load::{DeviceLayers, ModelWeights, Quantize, load, load_split};
pub use memory::{Memory, memory, needs};
pub use parts::{MatrixPart, Part, PartKind, WeightRole, Within};
pub use positions::PositionLayout;
pub use spec::{
    Activation, Attention, DecoderSpec, FeedForward, Latent, LayerSpec, NormSpec, PictureSpan, Positions,
    Residual,
};
