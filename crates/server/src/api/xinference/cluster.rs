//! The machine, as a cluster of one supervisor and one worker that are this server.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::extract::State as Shared;
use axum::http::{StatusCode, Uri};
use axum::response::Response;
use glimmer::{CardUse, ModelStatus, card_use, free_memory};
use serde_json::{Value, json};

use crate::api::xinference::description::Described;
use crate::app::App;
use crate::error::ApiError;
use crate::http::{query, response};

/// `GET /v1/cluster/auth`: whether requests must bring a key. It is said to anybody, for who is not told sends none.
pub(crate) async fn auth(Shared(app): Shared<Arc<App>>) -> Response {
    response::json(StatusCode::OK, &json!({"auth": app.keys.are_wanted()}))
}

/// `GET /v1/cluster/version`.
pub(crate) async fn version() -> Response {
    let version = json!({"version": env!("CARGO_PKG_VERSION"), "full-revisionid": null});
    response::json(StatusCode::OK, &version)
}

/// `GET /v1/cluster/devices`: how many cards there are.
pub(crate) async fn devices() -> Response {
    response::json(StatusCode::OK, &cards().await.len())
}

/// The driver may take its time.
async fn cards() -> Vec<CardUse> {
    tokio::task::spawn_blocking(card_use).await.unwrap_or_default()
}

/// `GET /v1/cluster/info?detailed=`: the supervisor and the worker, both this machine.
pub(crate) async fn info(Shared(app): Shared<Arc<App>>, uri: Uri) -> Result<Response, ApiError> {
    let detailed = query::flag(&uri, "detailed", false)?;
    let (cards, address) = (cards().await, app.address());
    let total: u64 = cards.iter().map(|card| card.memory_total).sum();
    let node = |node_type: &str, cards: &[CardUse]| {
        let total = if cards.is_empty() { 0 } else { total };
        let shown = if total == 0 { json!(0) } else { json!(format!("{}MiB", total >> 20)) };
        let mut node = json!({
            "node_type": node_type,
            "ip_address": address,
            "gpu_count": cards.len(),
            "gpu_vram_total": if detailed { json!(total) } else { shown },
        });
        if detailed {
            details(&mut node, cards);
        }
        node
    };
    let nodes = [node("Supervisor", &[]), node("Worker", &cards)];
    Ok(response::json(StatusCode::OK, &nodes))
}

fn details(node: &mut Value, cards: &[CardUse]) {
    let memory = free_memory();
    let processors = processors();
    let busy: Option<u32> = cards.iter().map(|card| card.busy).sum();
    node["gpu_vram_available"] =
        cards.iter().map(|card| card.memory_total.saturating_sub(card.memory_used)).sum::<u64>().into();
    node["gpu_utilization"] = busy.filter(|_| !cards.is_empty()).map(|busy| busy / cards.len() as u32).into();
    node["cpu_count"] = processors.into();
    node["cpu_available"] = Value::Null;
    node["mem_total"] = memory.map(|memory| memory.total).into();
    node["mem_available"] = memory.map(|memory| memory.free).into();
    node["mem_used"] = memory.map(|memory| memory.total.saturating_sub(memory.free)).into();
}

fn processors() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

/// `GET /v1/address`: where the supervisor is.
pub(crate) async fn address(Shared(app): Shared<Arc<App>>) -> Response {
    response::json(StatusCode::OK, &app.address())
}

/// `GET /v1/supervisor`.
pub(crate) async fn supervisor(Shared(app): Shared<Arc<App>>) -> Response {
    response::json(StatusCode::OK, &json!({"supervisor_ip": app.address()}))
}

/// `GET /v1/workers`: the worker, with its models.
pub(crate) async fn workers(Shared(app): Shared<Arc<App>>) -> Result<Response, ApiError> {
    let models = app.models()?;
    let described = |status: ModelStatus| {
        let lease = models.registry().find(&status.names[0]);
        let described = Described::of(&app, &status, lease.as_ref().map(|lease| &lease.model));
        (status.names[0].clone(), described)
    };
    let all: BTreeMap<String, Described> = models.registry().status().into_iter().map(described).collect();
    Ok(response::json(StatusCode::OK, &json!([{"work-ip": app.address(), "models": all}])))
}

/// `GET /status`: for how long the server has been there, and what its worker has.
pub(crate) async fn status(Shared(app): Shared<Arc<App>>) -> Response {
    let memory = free_memory();
    let mut status = json!({"cpu": {
        "usage": null,
        "total": processors(),
        "memory_used": memory.map(|memory| memory.total.saturating_sub(memory.free)),
        "memory_available": memory.map(|memory| memory.free),
        "memory_total": memory.map(|memory| memory.total),
    }});
    for (number, card) in cards().await.into_iter().enumerate() {
        status[format!("gpu-{number}")] = json!({
            "name": card.name,
            "mem_total": card.memory_total,
            "mem_free": card.memory_total.saturating_sub(card.memory_used),
            "mem_used": card.memory_used,
            "mem_usage": card.memory_used as f64 / card.memory_total.max(1) as f64,
            "gpu_util": card.busy,
        });
    }
    let worker = json!({"status": status});
    let seconds = app.uptime().as_secs();
    response::json(StatusCode::OK, &json!({"uptime": seconds, "workers": {app.address(): worker}}))
}
