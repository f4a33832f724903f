//! Who listens to answers, and what they have not been told yet.
//!
//! What happens to an answer is kept until [`Audience::next`] is asked for it: at once where the device computes nothing
//! meanwhile, else when the next step is under way (`worker.rs`).

use std::collections::{HashMap, VecDeque};
use std::ops::ControlFlow;

use crate::scheduler::SequenceId;
use crate::worker::guarded;
use crate::{EngineError, Event, Sink};

/// The sinks of requests that have not been told their end.
#[derive(Default)]
pub(crate) struct Audience {
    sinks: HashMap<SequenceId, Sink>,
    untold: VecDeque<(SequenceId, Event)>,
}

/// What came of telling somebody something.
pub(crate) enum Told {
    /// It goes on.
    Heard,
    /// It was the end.
    Ended {
        /// Whether that was a failure.
        failed: bool,
    },
    /// Nobody listens any more.
    Left,
    /// The sink panicked.
    Fault(EngineError),
}

/// An event for somebody who is not listened to any more.
pub(crate) fn tell_last(mut sink: Sink, event: Event) {
    // A sink that panics has nobody left to tell.
    let _ = guarded(move || {
        let _ = sink(event);
    });
}

impl Audience {
    pub(crate) fn enter(&mut self, id: SequenceId, sink: Sink) {
        self.sinks.insert(id, sink);
    }

    /// Keeps an event until it is told.
    pub(crate) fn keep(&mut self, id: SequenceId, event: Event) {
        self.untold.push_back((id, event));
    }

    /// Tells the oldest event that was kept: whose it was, and what came of it.
    pub(crate) fn next(&mut self) -> Option<(SequenceId, Told)> {
        let (id, event) = self.untold.pop_front()?;
        Some((id, self.tell(id, event)))
    }

    /// Tells an event at once.
    pub(crate) fn tell(&mut self, id: SequenceId, event: Event) -> Told {
        if let Event::Finished(_) | Event::Failed(_) = event {
            let Some(sink) = self.sinks.remove(&id) else { return Told::Heard };
            let failed = matches!(event, Event::Failed(_));
            tell_last(sink, event);
            return Told::Ended { failed };
        }
        let Some(sink) = self.sinks.get_mut(&id) else { return Told::Heard };
        match guarded(|| sink(event)) {
            Ok(ControlFlow::Continue(())) => Told::Heard,
            Ok(ControlFlow::Break(())) => {
                // Dropping a sink may run its owner's code.
                let _ = guarded(|| drop(self.sinks.remove(&id)));
                Told::Left
            }
            Err(fault) => Told::Fault(fault),
        }
    }
}
