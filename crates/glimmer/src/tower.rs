//! The tower of a model that sees: on a device of its own, beside the decoder's.

use glimmer_models::vision::{Tower, TowerPlan, VisionSpec};
use glimmer_tensor::{Capacity, Device, DeviceMemory, PAGE_SLOTS};

use crate::{Error, ModelFiles, OpenDevice};

/// Bytes that the features of late may take: those of a dozen pictures of GLM-4V.
pub(crate) const FEATURES: usize = 256 << 20;

/// Patches of the largest picture that is seen, whatever the context: 1,792 pixels squared in patches of 14.
const MOST_PATCHES: usize = 16_384;

/// A tower and the device that is to have it.
pub(crate) struct PlacedTower {
    device: Box<dyn Device>,
    spec: VisionSpec,
    plan: TowerPlan,
}

impl PlacedTower {
    pub(crate) fn load(self, files: &ModelFiles) -> Result<Tower, Error> {
        Ok(Tower::load(self.device, files.checkpoint()?, self.spec, self.plan)?)
    }
}

impl OpenDevice {
    /// The tower of a model, with room for the largest picture that a context of `capacity` holds; `None` where there is none.
    fn tower(
        &self,
        files: &ModelFiles,
        capacity: Capacity,
    ) -> Result<Option<(VisionSpec, TowerPlan)>, Error> {
        let Some(spec) = VisionSpec::of(files.checkpoint()?)? else { return Ok(None) };
        let of_context = capacity.pages.saturating_mul(PAGE_SLOTS * spec.merge * spec.merge);
        let patches = spec.fixed_patches().unwrap_or(of_context.min(MOST_PATCHES));
        let plan = TowerPlan { quantize: self.quantize, ..TowerPlan::for_patches(patches) };
        Ok(Some((spec, plan)))
    }

    /// What a model's tower will hold; nothing where it has none.
    pub(crate) fn needed_by_tower(
        &self,
        files: &ModelFiles,
        capacity: Capacity,
    ) -> Result<DeviceMemory, Error> {
        let Some((spec, plan)) = self.tower(files, capacity)? else { return Ok(DeviceMemory::default()) };
        let needs = spec.needs(files.checkpoint()?, &plan)?;
        Ok([needs.stored(), spec.host_memory(&plan)].into_iter().sum())
    }

    /// Gives a model's tower a device: the processor, or plain loops where these compute all else.
    pub(crate) fn place_tower(
        &self,
        files: &ModelFiles,
        capacity: Capacity,
    ) -> Result<Option<PlacedTower>, Error> {
        let Some((spec, plan)) = self.tower(files, capacity)? else { return Ok(None) };
        Ok(Some(PlacedTower { device: self.beside()?, spec, plan }))
    }
}
