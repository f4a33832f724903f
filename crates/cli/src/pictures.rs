//! Pictures and videos that a person shows a model, by their paths.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::Context;
use glimmer::{Conversation, Error, Medium, ModelText, PictureLimits, View};
use serde_json::{Value, json};

use crate::terminal::Terminal;
use crate::thumbnail;

/// What was looked at so far, by the paths that a conversation has.
#[derive(Default)]
pub(crate) struct Album(BTreeMap<String, View>);

impl Album {
    /// Looks at a file, or at a folder of frames: as a part of a message, and the rows that it takes. It is shown where the
    /// terminal can.
    pub(crate) fn look_at(
        &mut self,
        path: &Path,
        text: &ModelText,
        terminal: &Terminal,
    ) -> anyhow::Result<(Value, usize)> {
        let whole = path.canonicalize();
        let place = whole.as_deref().unwrap_or(path).display().to_string();
        let view = self.view(&place, text)?;
        thumbnail::show(&view, terminal);
        let kind = match view.medium() {
            Medium::Picture => "image_url",
            Medium::Video => "video_url",
        };
        Ok((json!({"type": kind, kind: {"url": place}}), view.rows()))
    }

    /// What a conversation shows, in order. A stored one names files that were not looked at yet.
    pub(crate) fn views(
        &mut self,
        conversation: &Conversation,
        text: &ModelText,
    ) -> anyhow::Result<Vec<View>> {
        let places = conversation.sights().map(|sight| sight.place.context("a picture says not where it is"));
        places.map(|place| self.view(place?, text)).collect()
    }

    fn view(&mut self, place: &str, text: &ModelText) -> anyhow::Result<View> {
        if let Some(view) = self.0.get(place) {
            return Ok(view.clone());
        }
        let vision = text.vision()?;
        let view = match vision.look_at(Path::new(place), &PictureLimits::default()) {
            // These say which file it is.
            Err(error @ (Error::NotFound(_) | Error::File(_))) => return Err(error.into()),
            view => view.with_context(|| place.to_owned())?,
        };
        self.0.insert(place.to_owned(), view.clone());
        Ok(view)
    }
}
