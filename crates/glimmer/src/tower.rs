//! The tower of a model that sees: on a device of its own, beside the decoder's.

use glimmer_checkpoint::Checkpoint;
use glimmer_models::Positions;
use glimmer_models::vision::{Tower, TowerNaming, TowerPlan, VisionSpec};
use glimmer_tensor::{Capacity, Device, DeviceMemory, PAGE_SLOTS};

use crate::{Error, ModelFiles, OpenDevice, vision};

/// Bytes that the features of late may take: those of a dozen pictures of GLM-4V.
pub(crate) const FEATURES: usize = 256 << 20;

/// Patches of the largest picture that is seen, whatever files say: GLM-4.1V's and GLM-OCR's processors make at most 30,000.
const MOST_PATCHES: usize = 32_768;

/// A tower and the device that is to have it.
pub(crate) struct PlacedTower {
    device: Box<dyn Device>,
    spec: VisionSpec,
    plan: TowerPlan,
}

impl PlacedTower {
    pub(crate) fn load(self, files: &ModelFiles) -> Result<Tower, Error> {
        Ok(Tower::load(self.device, weights(files)?, self.spec, self.plan)?)
    }
}

/// The tower of a model. One that was found beside a GGUF, and not named, counts where it is the decoder's.
pub(crate) fn spec(files: &ModelFiles) -> Result<Option<VisionSpec>, Error> {
    let is_named = files.overrides().mmproj.is_some();
    let found = files.tower().and_then(|checkpoint| {
        let Some(checkpoint) = checkpoint else { return Ok(None) };
        match VisionSpec::of(checkpoint)? {
            Some(tower) if checkpoint.metadata().is_some() => beside(files, checkpoint, tower).map(Some),
            None if is_named => Err(other(checkpoint, "it holds no vision tower".to_owned())),
            tower => Ok(tower),
        }
    });
    match found {
        Err(_) if !is_named && files.metadata()?.is_some() => Ok(None),
        found => found,
    }
}

/// Holds a tower of another file to its decoder.
fn beside(files: &ModelFiles, checkpoint: &Checkpoint, tower: VisionSpec) -> Result<VisionSpec, Error> {
    let decoder = files.spec()?;
    if tower.hidden != decoder.hidden {
        let (wanted, width) = (tower.hidden, decoder.hidden);
        return Err(other(
            checkpoint,
            format!("a tower for a decoder of width {wanted}, this one has {width}"),
        ));
    }
    if (tower.naming == TowerNaming::MmprojGlm4v) != (decoder.positions == Positions::OfGrid) {
        let why = "its pictures and the decoder's positions (rope.dimension_sections) do not go together";
        return Err(other(checkpoint, why.to_owned()));
    }
    Ok(tower)
}

fn other(checkpoint: &Checkpoint, why: String) -> Error {
    Error::OtherTower { path: checkpoint.path().to_owned(), why }
}

/// Where its weights are.
fn weights(files: &ModelFiles) -> Result<&Checkpoint, Error> {
    files.tower()?.map_or_else(|| files.checkpoint(), Ok)
}

impl OpenDevice {
    /// The tower of a model, with room for the largest picture that a context of `capacity` holds; `None` where there is none.
    fn tower(
        &self,
        files: &ModelFiles,
        capacity: Capacity,
    ) -> Result<Option<(VisionSpec, TowerPlan)>, Error> {
        let Some(spec) = spec(files)? else { return Ok(None) };
        let of_context = capacity.pages.saturating_mul(PAGE_SLOTS * spec.merge * spec.merge);
        // A processor shrinks what is larger.
        let most = vision::of(files).ok().flatten().map_or(MOST_PATCHES, |vision| vision.most_patches());
        let patches = spec.fixed_patches().unwrap_or(of_context.min(most).min(MOST_PATCHES));
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
        let needs = spec.needs(weights(files)?, &plan)?;
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
