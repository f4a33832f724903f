//! What sees the pictures of requests: the tower, and what it made of pictures of late.
//!
//! A request with pictures waits here until all of them are seen, first come first served, and is then scheduled like any
//! other. The tower works a piece at a time, between two steps, so that nobody else waits long for it.

use std::collections::VecDeque;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::{Duration, Instant};

use glimmer_models::PictureSpan;
use glimmer_models::vision::{Look, Patches, Tower};
use glimmer_tensor::{DeviceMemory, Features};

use crate::request::{Event, PromptProgress, Request, Sink};
use crate::worker::guarded;
use crate::{EngineError, PromptPicture};

/// How often somebody whose pictures are being seen is asked whether it still listens.
const ASK: Duration = Duration::from_millis(500);

/// A request whose pictures are to be seen.
struct Waiting {
    request: Request,
    sinks: Vec<Sink>,
    /// The features of its first pictures.
    seen: Vec<Arc<Features>>,
    asked: Instant,
}

/// A request whose pictures are seen: what is to be answered, and the features of each picture.
pub(crate) struct Seen {
    pub(crate) request: Request,
    pub(crate) sinks: Vec<Sink>,
    pub(crate) features: Vec<Arc<Features>>,
}

/// What came of a piece of work.
pub(crate) enum Sight {
    /// There is more to do, or nothing.
    More,
    /// A request is ready.
    Ready(Seen),
    /// One cannot be served.
    Failed(Vec<Sink>, EngineError),
}

pub(crate) struct Viewer {
    tower: Tower,
    /// By digest, the least recently used first.
    kept: VecDeque<([u8; 32], Arc<Features>)>,
    /// Bytes that they may take.
    room: usize,
    waiting: VecDeque<Waiting>,
    /// The picture that is being seen: the first request's next one.
    look: Option<Look>,
    /// Pictures that went through the tower, and those whose features were there.
    pub(crate) pictures: u64,
    pub(crate) pictures_kept: u64,
}

impl Viewer {
    /// With so many bytes for features of late.
    pub(crate) fn new(tower: Tower, room: usize) -> Self {
        Viewer {
            tower,
            kept: VecDeque::new(),
            room,
            waiting: VecDeque::new(),
            look: None,
            pictures: 0,
            pictures_kept: 0,
        }
    }

    pub(crate) fn memory(&self) -> DeviceMemory {
        self.tower.memory()
    }

    /// Requests that wait.
    pub(crate) fn waiting(&self) -> usize {
        self.waiting.len()
    }

    /// Where the pictures of a prompt are.
    pub(crate) fn spans(&self, pictures: &[PromptPicture]) -> Vec<PictureSpan> {
        let spec = self.tower.spec();
        let span = |picture: &PromptPicture| {
            let grid = picture.rows.grid();
            PictureSpan { first: picture.first, rows: spec.feature_rows(grid), grid: spec.merged(grid) }
        };
        pictures.iter().map(span).collect()
    }

    /// Takes a request that has pictures.
    pub(crate) fn accept(&mut self, request: Request, sinks: Vec<Sink>) {
        self.waiting.push_back(Waiting { request, sinks, seen: Vec::new(), asked: Instant::now() });
    }

    /// Gives all requests back.
    pub(crate) fn give_up(&mut self) -> impl Iterator<Item = Sink> {
        self.look = None;
        std::mem::take(&mut self.waiting).into_iter().flat_map(|waiting| waiting.sinks)
    }

    /// Does a piece of work for the request that came first.
    pub(crate) fn see(&mut self) -> Sight {
        match self.advance() {
            Ok(()) => {}
            Err(error) => {
                self.look = None;
                return match self.waiting.pop_front() {
                    Some(waiting) => Sight::Failed(waiting.sinks, error),
                    None => Sight::More,
                };
            }
        }
        let is_seen = |waiting: &mut Waiting| waiting.seen.len() == waiting.request.pictures.len();
        match self.waiting.pop_front_if(is_seen) {
            Some(Waiting { request, sinks, seen: features, .. }) => {
                Sight::Ready(Seen { request, sinks, features })
            }
            None => Sight::More,
        }
    }

    fn advance(&mut self) -> Result<(), EngineError> {
        let Some(first) = self.waiting.front_mut() else { return Ok(()) };
        if first.asked.elapsed() > ASK {
            first.asked = Instant::now();
            let progress = PromptProgress { total: first.request.prompt.len(), ..PromptProgress::default() };
            let listens = |sink: &mut Sink| {
                let event = Event::Prompt(progress.clone());
                !matches!(guarded(|| sink(event)), Ok(ControlFlow::Break(())) | Err(_))
            };
            first.sinks.retain_mut(listens);
            if first.sinks.is_empty() {
                self.waiting.pop_front();
                self.look = None;
                return Ok(());
            }
        }
        while let Some(picture) = first.request.pictures.get(first.seen.len()) {
            let digest = picture.digest;
            if self.look.is_none()
                && let Some(at) = self.kept.iter().position(|(kept, _)| *kept == digest)
            {
                self.kept.make_contiguous()[at..].rotate_left(1);
                self.pictures_kept += 1;
                first.seen.extend(self.kept.back().map(|(_, features)| Arc::clone(features)));
                continue;
            }
            let look = match &mut self.look {
                Some(look) => look,
                none => none.insert(self.tower.begin(Arc::clone(&picture.rows) as Arc<dyn Patches>)?),
            };
            self.tower.begin_turn();
            let features = guarded(|| Ok(self.tower.advance(look)?)).flatten();
            self.tower.end_turn();
            let features = features?;
            if let Some(features) = features {
                let features = Arc::new(features);
                self.look = None;
                self.pictures += 1;
                first.seen.push(Arc::clone(&features));
                self.keep(digest, features);
            }
            return Ok(());
        }
        Ok(())
    }

    fn keep(&mut self, digest: [u8; 32], features: Arc<Features>) {
        let bytes = |features: &Features| 4 * features.values.len();
        self.kept.push_back((digest, features));
        let mut held: usize = self.kept.iter().map(|(_, features)| bytes(features)).sum();
        while held > self.room
            && let Some((_, oldest)) = self.kept.pop_front()
        {
            held -= bytes(&oldest);
        }
    }
}
