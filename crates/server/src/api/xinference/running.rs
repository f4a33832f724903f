//! Models that run, and are terminated.

use std::sync::Arc;

use axum::extract::{Path, State as Shared};
use axum::http::{StatusCode, Uri};
use axum::response::Response;
use serde_json::{Value, json};

use crate::app::App;
use crate::error::{ApiError, shown};
use crate::http::{query, response};
use crate::models::instances::{Instance, State};

/// `DELETE /v1/models/{name}`: nobody finds the model any more; answers in progress go on to their end.
pub(crate) async fn terminate(
    Shared(app): Shared<Arc<App>>,
    Path(uid): Path<String>,
) -> Result<Response, ApiError> {
    app.launcher()?;
    let launched = app.instances.end(&uid).is_some();
    let models = app.models()?;
    let served = models.remove(&uid);
    if !launched && !served {
        return Err(models.no_model(Some(&uid)));
    }
    let particulars = [("model".to_owned(), shown(&uid).into())];
    app.record.log.line("terminated", particulars.into_iter().collect());
    Ok(response::json(StatusCode::OK, &Value::Null))
}

/// `GET /v1/models/instances?model_name=&model_uid=`: models that run or are on their way.
pub(crate) async fn instances(Shared(app): Shared<Arc<App>>, uri: Uri) -> Response {
    let (uid, name) = (query::value(&uri, "model_uid"), query::value(&uri, "model_name"));
    let is_meant = |one: &Arc<Instance>| match (&uid, &name) {
        (Some(uid), _) => one.uid == *uid,
        (None, Some(name)) => one.description.model_name == *name,
        (None, None) => true,
    };
    let all: Vec<Value> =
        app.instances.all().iter().filter(|one| is_meant(one)).map(|one| instance(&app, one)).collect();
    response::json(StatusCode::OK, &all)
}

fn instance(app: &App, one: &Instance) -> Value {
    let known = &one.description;
    json!({
        "model_name": known.model_name,
        "model_uid": one.uid,
        "model_version": null,
        "model_ability": known.model_ability,
        "replica": one.replica,
        "status": status(&one.state()).0,
        "instance_created_ts": one.created,
        "n_worker": 1,
        "replica_statuses": replica_statuses(app, one),
    })
}

/// A state in Xinference's word, and what went wrong.
fn status(state: &State) -> (&'static str, Option<String>) {
    match state {
        State::Downloading(_) | State::Loading => ("LOADING", None),
        State::Ready => ("READY", None),
        State::Failed(error) => ("ERROR", Some(error.to_string())),
        State::Ended => ("TERMINATED", None),
    }
}

/// `GET /v1/models/{name}/replicas`.
pub(crate) async fn replicas(
    Shared(app): Shared<Arc<App>>,
    Path(uid): Path<String>,
) -> Result<Response, ApiError> {
    let models = app.models()?;
    let instance = app.instances.find(&uid).ok_or_else(|| models.no_model(Some(&uid)))?;
    Ok(response::json(StatusCode::OK, &replica_statuses(&app, &instance)))
}

fn replica_statuses(app: &App, one: &Instance) -> Vec<Value> {
    let (status, error) = status(&one.state());
    let address = app.address();
    let replica = |number| {
        json!({
            "replica_id": number,
            "replica_model_uid": format!("{}-rep{number}", one.uid),
            "worker_address": address,
            "model_address": address,
            "accelerators": null,
            "status": status,
            "created_ts": one.created,
            "error_message": error,
            "replica_uid": null,
            "gpu_idx": null,
        })
    };
    (0..one.replica.min(REPLICAS)).map(replica).collect()
}

/// Replicas that are listed one by one.
const REPLICAS: usize = 1000;

/// `POST /v1/models/{name}/replicas`, `DELETE /v1/models/{name}/replicas/{replica}`: a model's memory is planned once.
pub(crate) async fn other_replicas() -> ApiError {
    ApiError::unsupported(
        "replica",
        "`replica` is said when a model is launched: terminate it and launch it again",
    )
}

/// `POST /v1/models/{name}/requests/{request}/abort`.
pub(crate) async fn abort() -> ApiError {
    ApiError::unsupported("request_id", "a request is aborted by closing its connection")
}
