//! Xinference's API: models that clients launch by name, what is known of them, and the machine as a cluster of one.

pub(crate) mod cluster;
pub(crate) mod description;
pub(crate) mod files;
pub(crate) mod launch;
pub(crate) mod registrations;
pub(crate) mod running;
