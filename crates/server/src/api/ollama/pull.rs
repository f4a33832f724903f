//! `POST /api/pull`: a model is fetched from a hub, and known from then on.

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use axum::Extension;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use serde_json::{Value, json};
use tokio::sync::watch;

use crate::api::dialect::Dialect;
use crate::api::ollama::names;
use crate::app::App;
use crate::error::ApiError;
use crate::http::params::Params;
use crate::http::sse::{Event, Script};
use crate::http::{ndjson, response};
use crate::launcher::{Launch, LaunchError, LaunchWatch};
use crate::models::blocking::blocking;
use crate::record::entry::Entry;

/// Where a pull is.
#[derive(Clone, Debug)]
enum Step {
    Looking,
    Fetching { done: u64, total: u64 },
    Known,
    Failed(LaunchError),
}

/// A client that waits for files. When it goes away the fetching stops; what is here is here, and another pull goes on with it.
struct Waiting(watch::Sender<Step>);

impl LaunchWatch for Waiting {
    fn progress(&self, done: u64, total: u64) {
        self.0.send_replace(Step::Fetching { done, total });
    }

    fn note(&self, _text: &str) {}

    fn cancelled(&self) -> bool {
        self.0.is_closed()
    }
}

/// Fetches; a model that is known is there.
pub(crate) async fn pull(
    State(app): State<Arc<App>>,
    Extension(entry): Extension<Entry>,
    mut params: Params,
) -> Result<Response, ApiError> {
    let name = names::asked(&mut params, &names::FIELDS);
    let stream = params.boolean("stream").unwrap_or(true);
    // Each hub is asked as its own variables say.
    params.boolean("insecure");
    ["username", "password"].iter().for_each(|field| params.ignore(field));
    params.done()?;
    let steps = match names::known(&app, &entry, &name).await {
        Some(_) => watch::Sender::new(Step::Known).subscribe(),
        None => {
            let launcher = Arc::clone(app.launcher()?);
            let wanted = name.clone();
            let launch = blocking(&entry, move || Ok(launcher.resolve(names::spec(&wanted))?)).await?;
            begin(&app, &name, launch)?
        }
    };
    if stream {
        return Ok(ndjson::respond(Pulling {
            steps,
            digest: format!("sha256:{}", names::digest(&name)),
            name,
            is_begun: false,
        }));
    }
    match settled(steps).await {
        Step::Failed(error) => Err(error.into()),
        _ => Ok(response::json(StatusCode::OK, &json!({"status": "success"}))),
    }
}

/// Fetches on a thread of its own.
fn begin(app: &Arc<App>, name: &str, launch: Box<dyn Launch>) -> Result<watch::Receiver<Step>, ApiError> {
    let permit = Arc::clone(&app.pulls).try_acquire_owned().map_err(|_| ApiError::busy(0, 10))?;
    let (sender, steps) = watch::channel(Step::Looking);
    let (app, names) = (Arc::clone(app), vec![name.to_owned()]);
    let run = move || {
        let waiting = Waiting(sender);
        // A fault in a model's files is that model's alone.
        let fetched = catch_unwind(AssertUnwindSafe(|| launch.fetch(names, &waiting)));
        let fetched = fetched.unwrap_or_else(|_| Err(LaunchError::Failed("the pull met a fault".to_owned())));
        let known = fetched.and_then(|model| {
            let models = app.models().map_err(|error| LaunchError::Failed(error.message()))?;
            models.registry().know(model).map_err(|error| LaunchError::Failed(error.to_string()))
        });
        waiting.0.send_replace(known.map_or_else(Step::Failed, |()| Step::Known));
        drop(permit);
    };
    let thread = std::thread::Builder::new().name("pull".to_owned()).spawn(run);
    thread.map_err(|error| ApiError::internal(format!("no thread can be had: {error}")))?;
    Ok(steps)
}

/// Waits for the end.
async fn settled(mut steps: watch::Receiver<Step>) -> Step {
    let is_over = |step: &Step| matches!(step, Step::Known | Step::Failed(_));
    match steps.wait_for(is_over).await {
        Ok(step) => step.clone(),
        Err(_) => Step::Failed(LaunchError::Cancelled),
    }
}

/// A pull as its client follows it.
struct Pulling {
    steps: watch::Receiver<Step>,
    name: String,
    /// Bars of progress are told apart by it.
    digest: String,
    is_begun: bool,
}

impl Script for Pulling {
    async fn more(&mut self, ready: &mut VecDeque<Event>) -> Option<Result<(), ApiError>> {
        let mut say = |value: Value| ready.push_back(Event::of(&value));
        if !std::mem::replace(&mut self.is_begun, true) {
            say(json!({"status": "pulling manifest"}));
            return Some(Ok(()));
        }
        let step = self.steps.borrow_and_update().clone();
        match step {
            Step::Looking => {}
            Step::Fetching { done, total } => say(json!({
                "status": format!("pulling {}", self.name),
                "digest": self.digest,
                "total": total,
                "completed": done.min(total),
            })),
            Step::Known => return None,
            Step::Failed(error) => return Some(Err(error.into())),
        }
        // The thread says how it ends before it lets go.
        match self.steps.changed().await {
            Ok(()) => Some(Ok(())),
            Err(_) => Some(Err(LaunchError::Cancelled.into())),
        }
    }

    fn close(&mut self, ready: &mut VecDeque<Event>) {
        for status in ["verifying sha256 digest", "writing manifest", "success"] {
            ready.push_back(Event::of(&json!({"status": status})));
        }
    }

    fn fail(&mut self, error: &ApiError, ready: &mut VecDeque<Event>) {
        ready.push_back(Event::of(&Dialect::Ollama.error(error)));
    }
}
