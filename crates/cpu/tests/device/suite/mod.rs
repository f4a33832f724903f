//! Every operation of a device against the reference device, and what must hold bit for bit. Written for any
//! [`Device`](glimmer_tensor::Device); outputs are poisoned before they are computed.

pub(crate) mod attention;
pub(crate) mod rig;
pub(crate) mod rows;

pub(crate) use rig::Make;
