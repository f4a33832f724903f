//! What a message shows beside its text, and what a prompt has in its place.

use serde_json::Value;

/// A kind of thing to be seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Medium {
    /// One picture.
    Picture,
    /// Frames in time.
    Video,
}

/// A picture or a video as a conversation names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sight<'a> {
    /// Which of the two it is.
    pub medium: Medium,
    /// Where it is: a path, a URL or a data URI. `None` where the conversation says only that there is one.
    pub place: Option<&'a str>,
}

/// How much of a prompt one takes, known once it was cut to the model's size.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Seen {
    /// Rows of a picture's features.
    Picture(usize),
    /// Rows of the features of each group of frames, and the time that stands after them.
    Video(Vec<(usize, String)>),
}

/// Where features are in a prompt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Placed {
    /// The slot of the first of their rows.
    pub first: usize,
    /// Whose they are: the place in the list of what the conversation shows.
    pub sight: usize,
    /// Which group of frames of a video; 0 for a picture.
    pub group: usize,
}

impl Medium {
    /// The medium of a part of content with this `type`.
    pub(crate) fn of_type(kind: &str) -> Option<Medium> {
        match kind {
            "image" | "image_url" | "input_image" => Some(Medium::Picture),
            "video" | "video_url" | "input_video" => Some(Medium::Video),
            _ => None,
        }
    }

    /// The medium of a part of content, if it is no text.
    pub(crate) fn of_part(part: &Value) -> Option<Medium> {
        Medium::of_type(part.get("type")?.as_str()?)
    }

    /// The word for it in a template's parts.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Medium::Picture => "image",
            Medium::Video => "video",
        }
    }
}

impl<'a> Sight<'a> {
    /// Reads a part of content, or GLM-4V's field `image`.
    pub(crate) fn of(value: &'a Value) -> Sight<'a> {
        let medium = Medium::of_part(value).unwrap_or(Medium::Picture);
        let url = |value: &'a Value| value.as_str().or_else(|| value.get("url")?.as_str());
        let named = ["image_url", "video_url", "image", "video", "url", "path"];
        let place = value.as_str().or_else(|| named.iter().find_map(|name| url(value.get(name)?)));
        Sight { medium, place }
    }
}
