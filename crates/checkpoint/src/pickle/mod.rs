//! PyTorch `.bin` files: a zip archive with a pickle that describes tensors and one plain member per storage.
//!
//! A pickle is a program for Python's unpickling machine, and one that may call any Python function. The machine here
//! (`machine.rs`) knows the handful of instructions and the handful of names that a state dict needs, has nothing to
//! call, and refuses everything else by name; running a file can at worst end in an error. It reads what `torch.save`
//! writes since PyTorch 1.6: a dict from names to tensors. The legacy stream format before that, TorchScript archives
//! and compressed archives are refused.
//!
//! Sources: CPython's `pickletools.py`, PyTorch's `torch/serialization.py` and `torch/_utils.py`, PKWARE's APPNOTE.

mod machine;
mod state_dict;
mod zip;

pub use state_dict::{StateDict, parse};

/// The first bytes of a zip archive.
pub(crate) const ZIP_MAGIC: &[u8; 4] = b"PK\x03\x04";

/// The first bytes of a pickle of protocol 2, with which the legacy format begins.
pub(crate) const PICKLE_MAGIC: &[u8; 2] = b"\x80\x02";
