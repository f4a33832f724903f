//! What a model sees: from bytes to the rows that its tower reads, and how many of a prompt's rows they take.

use std::path::Path;
use std::sync::Arc;

use glimmer_chat::{Medium, Placed, Seen};
use glimmer_checkpoint::Checkpoint;
use glimmer_checkpoint::gguf::Metadata;
use glimmer_config::{file, shortest_decimal};
use glimmer_engine::PromptPicture;
use glimmer_models::vision::{PatchPositions, VisionSpec};
use glimmer_picture::{
    Limits, Picture, PictureError, Processor, ProcessorError, ProcessorFiles, Rows, Video, VideoRules, decode,
};
use serde_json::json;

use crate::{Error, ModelFiles, tower};

/// How a model is shown pictures.
pub struct Vision {
    processor: Processor,
    spec: VisionSpec,
}

/// A picture or a video, cut to what a model reads of it. Cheap to clone.
#[derive(Clone, Debug)]
pub struct View {
    medium: Medium,
    /// A picture, or each group of frames of a video.
    groups: Vec<Arc<Rows>>,
    /// The rows of features of each.
    rows: usize,
    /// What stands after each group of frames.
    times: Vec<String>,
}

impl Vision {
    /// Whether the model is shown videos, too.
    pub fn takes_videos(&self) -> bool {
        self.processor.video().is_some()
    }

    /// Patches of the largest picture that its processor makes.
    pub(crate) fn most_patches(&self) -> usize {
        self.processor.most_patches()
    }

    /// Looks at the bytes of a file, which may be a stranger's. Takes as long as decoding does.
    ///
    /// # Errors
    /// [`Error::Picture`] when they are no picture, or no animation where a video is meant, or more than the limits allow.
    pub fn look(&self, medium: Medium, bytes: &[u8], limits: &Limits) -> Result<View, Error> {
        Ok(match medium {
            Medium::Picture => self.look_at_picture(&decode(bytes, limits)?)?,
            Medium::Video => self.watch(|rules| Video::of_animation(bytes, rules, limits))?,
        })
    }

    /// Looks at a picture that is decoded.
    ///
    /// # Errors
    /// When the model's processor refuses its shape.
    pub fn look_at_picture(&self, picture: &Picture) -> Result<View, Error> {
        let rows = self.processor.rows(picture)?;
        let feature_rows = self.spec.feature_rows(rows.grid());
        Ok(View {
            medium: Medium::Picture,
            groups: vec![Arc::new(rows)],
            rows: feature_rows,
            times: Vec::new(),
        })
    }

    /// Looks at a file, or at a folder of frames. A file that is an animation is a video for a model that takes videos.
    ///
    /// # Errors
    /// Those of [`look`](Vision::look), and when there is nothing to be read.
    pub fn look_at(&self, path: &Path, limits: &Limits) -> Result<View, Error> {
        if path.is_dir() {
            return self.watch(|rules| Video::of_folder(path, None, rules, limits));
        }
        let bytes = file::read_bytes(path, limits.bytes as u64)?;
        let bytes = bytes.ok_or_else(|| Error::NotFound(path.to_owned()))?;
        if self.takes_videos() {
            match self.look(Medium::Video, &bytes, limits) {
                // One picture, of whatever kind.
                Err(Error::Picture(PictureError::NotAnimated { .. })) => {}
                other => return other,
            }
        }
        self.look(Medium::Picture, &bytes, limits)
    }

    fn watch(&self, frames: impl Fn(&VideoRules) -> Result<Video, PictureError>) -> Result<View, Error> {
        let rules = self.processor.video().ok_or(PictureError::NoVideo)?;
        let video = frames(rules)?;
        let groups = self.processor.video_rows(video.frames())?.into_groups();
        let mut times = video.times();
        // A time for each group, as the references fill up.
        times.resize(groups.len(), times.last().copied().unwrap_or_default());
        Ok(View {
            medium: Medium::Video,
            rows: groups.first().map_or(0, |group| self.spec.feature_rows(group.grid())),
            groups: groups.into_iter().map(Arc::new).collect(),
            times: times.iter().map(|seconds| rules.style().text(*seconds)).collect(),
        })
    }
}

impl View {
    /// Whether it is a picture or a video.
    pub fn medium(&self) -> Medium {
        self.medium
    }

    /// Rows that it takes in a prompt, each as a token does.
    pub fn rows(&self) -> usize {
        self.rows * self.groups.len()
    }

    /// The picture, or a video's first frame, as it is cut to patches.
    pub fn first_frame(&self) -> Option<&Picture> {
        self.groups.first()?.frames().first()
    }

    /// What stands in its place.
    pub(crate) fn seen(&self) -> Seen {
        match self.medium {
            Medium::Picture => Seen::Picture(self.rows),
            Medium::Video => Seen::Video(self.times.iter().map(|time| (self.rows, time.clone())).collect()),
        }
    }

    /// What a request has of it where its rows are.
    pub(crate) fn placed(views: &[View], placed: Placed) -> Option<PromptPicture> {
        let rows = views.get(placed.sight)?.groups.get(placed.group)?;
        Some(PromptPicture::new(placed.first, Arc::clone(rows)))
    }
}

/// How a model is shown pictures; `None` where it has no tower.
pub(crate) fn of(files: &ModelFiles) -> Result<Option<Vision>, Error> {
    // Small files alone tell, where there are any: a tokenizer is read without weights.
    let has_tower =
        || files.configuration().map(|files| files.config().is_some_and(|c| !c["vision_config"].is_null()));
    if files.metadata()?.is_none() && !has_tower()? {
        return Ok(None);
    }
    let Some(spec) = tower::spec(files)? else { return Ok(None) };
    let processor = match files.tower()?.and_then(Checkpoint::metadata) {
        Some(metadata) => Some(processor_beside(metadata, &spec)?),
        None => processor(files)?,
    };
    Ok(processor.map(|processor| Vision { processor, spec }))
}

/// How pictures are prepared for a tower of llama.cpp's: as by the processor of the models that have it, in the file's colours.
fn processor_beside(metadata: &Metadata, spec: &VisionSpec) -> Result<Processor, Error> {
    let colours = |key: &str| metadata.get::<Vec<f32>>(&format!("clip.vision.{key}"));
    if let PatchPositions::Learned { side } = spec.stem.positions {
        return Ok(Processor::fitted(side * spec.patch, spec.patch)?);
    }
    // GLM-OCR's is that of GLM-4.6V, and of the towers its own norms each head.
    let class = if spec.layer.head_norm.is_some() { "Glm46VImageProcessor" } else { "Glm4vImageProcessor" };
    let mut file = json!({"image_processor_type": class, "patch_size": spec.patch, "merge_size": spec.merge});
    for key in ["image_mean", "image_std"] {
        if let Some(colours) = colours(key)? {
            file[key] = colours.into_iter().map(shortest_decimal).collect();
        }
    }
    let files = ProcessorFiles { processor: None, picture: Some(&file), video: None };
    Ok(Processor::read(files)?)
}

/// How a model's pictures are prepared: what its files say, or its code has. `None` where it has no tower.
fn processor(files: &ModelFiles) -> Result<Option<Processor>, Error> {
    let Some(config) = files.configuration()?.config() else { return Ok(None) };
    let Some(vision) = config.get("vision_config").filter(|vision| vision.is_object()) else {
        return Ok(None);
    };
    let size = |key: &str| vision[key].as_u64().and_then(|n| usize::try_from(n).ok()).unwrap_or(0);
    if config["model_type"] == "chatglm" {
        return Ok(Some(Processor::stretched(size("image_size"), size("patch_size"))?));
    }
    let directory = files.source().directory();
    let read = |name: &str| file::read_object(&directory.join(name));
    let processor = read("processor_config.json")?;
    let picture = read("preprocessor_config.json")?;
    let video = read("video_preprocessor_config.json")?;
    let read = Processor::read(ProcessorFiles {
        processor: processor.as_ref(),
        picture: picture.as_ref(),
        video: video.as_ref(),
    });
    Ok(Some(match read {
        Err(ProcessorError::Missing) if vision["model_type"] == "siglip_vision_model" => {
            Processor::fitted(size("image_size"), size("patch_size"))?
        }
        read => read?,
    }))
}
