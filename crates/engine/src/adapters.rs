//! The adapters of a running engine: where on the device they are, and who uses them.

use std::collections::BTreeMap;
use std::sync::Arc;

use glimmer_models::{Adapter, Decoder, ModelError, Prefix};
use glimmer_tensor::AdapterSlot;
use sha2::{Digest, Sha256};

use crate::EngineError;

/// An adapter that an engine has loaded. Another engine's means nothing to it, and the default is none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AdapterId(pub(crate) u64);

/// What an adapter's numbers are known by: equal ones are equal adapters, in every run and on every machine.
pub(crate) fn digest(adapter: &Adapter) -> [u8; 16] {
    let mut hash = Sha256::new();
    let mut numbers = |values: &[f32]| {
        hash.update((values.len() as u64).to_le_bytes());
        values.iter().for_each(|value| hash.update(value.to_le_bytes()));
    };
    match adapter {
        Adapter::LowRank(adapter) => {
            for (address, pair) in &adapter.pairs {
                let layer = address.layer.map_or(-1.0, |layer| layer as f32);
                let role: Vec<f32> = format!("{:?}", address.role).bytes().map(f32::from).collect();
                numbers(&role);
                numbers(&[layer, pair.scale, pair.rank as f32]);
                numbers(&pair.a);
                numbers(&pair.b);
                numbers(pair.magnitude.as_deref().unwrap_or_default());
            }
        }
        Adapter::Prefix(prefix) => {
            numbers(&[f32::from(u8::from(prefix.shifts_positions))]);
            for layer in &prefix.layers {
                numbers(&layer.keys);
                numbers(&layer.values);
            }
        }
    }
    let all = hash.finalize();
    std::array::from_fn(|i| all[i])
}

/// An adapter on the device.
struct Loaded {
    /// Where its pairs are, if it has any.
    slot: Option<AdapterSlot>,
    prefix: Option<Arc<Prefix>>,
    digest: [u8; 16],
    /// Requests that have it.
    users: usize,
    /// Whether it goes with its last user.
    dropped: bool,
}

/// What a sequence needs of its adapter.
#[derive(Clone)]
pub(crate) struct InUse {
    pub(crate) id: AdapterId,
    pub(crate) slot: Option<AdapterSlot>,
    pub(crate) prefix: Option<Arc<Prefix>>,
    pub(crate) digest: [u8; 16],
}

impl InUse {
    /// Slots that its prefix takes.
    pub(crate) fn given(&self) -> usize {
        self.prefix.as_ref().map_or(0, |prefix| prefix.slots)
    }

    /// How far it moves positions.
    pub(crate) fn shift(&self) -> usize {
        self.prefix.as_ref().filter(|prefix| prefix.shifts_positions).map_or(0, |prefix| prefix.slots)
    }
}

/// All of them.
#[derive(Default)]
pub(crate) struct Adapters(BTreeMap<AdapterId, Loaded>);

impl Adapters {
    /// Brings an adapter to the decoder's devices.
    pub(crate) fn load(
        &mut self,
        decoder: &mut Decoder,
        id: AdapterId,
        adapter: Adapter,
        digest: [u8; 16],
    ) -> Result<(), ModelError> {
        let (slot, prefix) = match adapter {
            Adapter::Prefix(prefix) => (None, Some(Arc::new(prefix))),
            Adapter::LowRank(pairs) => {
                let taken: Vec<AdapterSlot> = self.0.values().filter_map(|loaded| loaded.slot).collect();
                let slot = (0..).find(|slot| !taken.contains(slot)).expect("few slots are taken");
                decoder.attach(slot, &pairs)?;
                (Some(slot), None)
            }
        };
        self.0.insert(id, Loaded { slot, prefix, digest, users: 0, dropped: false });
        Ok(())
    }

    /// Has nobody new use an adapter; it goes when nobody does.
    pub(crate) fn drop_adapter(&mut self, id: AdapterId) {
        if let Some(loaded) = self.0.get_mut(&id) {
            loaded.dropped = true;
        }
    }

    /// What a request that names an adapter needs of it.
    pub(crate) fn get(&self, id: AdapterId) -> Result<InUse, EngineError> {
        let loaded = self.0.get(&id).filter(|loaded| !loaded.dropped).ok_or(EngineError::NoAdapter)?;
        let Loaded { slot, prefix, digest, .. } = loaded;
        Ok(InUse { id, slot: *slot, prefix: prefix.clone(), digest: *digest })
    }

    /// One more request has it.
    pub(crate) fn enter(&mut self, adapter: &InUse) {
        self.0.get_mut(&adapter.id).into_iter().for_each(|loaded| loaded.users += 1);
    }

    /// One less.
    pub(crate) fn leave(&mut self, adapter: &InUse) {
        self.0.get_mut(&adapter.id).into_iter().for_each(|loaded| loaded.users -= 1);
    }

    /// Lets go of those that were dropped and that nobody has any more. Between steps.
    pub(crate) fn sweep(&mut self, decoder: &mut Decoder) {
        self.0.retain(|_, loaded| {
            let stays = !loaded.dropped || loaded.users > 0;
            if let Some(slot) = loaded.slot.filter(|_| !stays) {
                decoder.detach(slot);
            }
            stays
        });
    }
}
