//! Which path is whose, and what every request goes through.

use std::sync::Arc;

use axum::Router;
use axum::extract::Request;
use axum::http::{HeaderValue, Method, Uri, header};
use axum::response::IntoResponse;
use axum::routing::{MethodRouter, delete, get, post};
use tower::util::MapRequest;
use tower_http::catch_panic::CatchPanicLayer;
use tower_http::cors::{AllowHeaders, Any, CorsLayer};

use crate::access;
use crate::api::anthropic::messages;
use crate::api::openai::responses::routes as responses;
use crate::api::openai::{chat, completions, embeddings, models};
use crate::api::xinference::{cluster, files, launch, registrations, running};
use crate::api::{adapters, catalogue, glm, ollama, page, rerank, status, tokens};
use crate::app::App;
use crate::error::{ApiError, ServerError};

/// Every path, and what answers there.
fn routes() -> Vec<(&'static str, MethodRouter<Arc<App>>)> {
    [plain_routes(), xinference_routes(), ollama_routes()].concat()
}

fn plain_routes() -> Vec<(&'static str, MethodRouter<Arc<App>>)> {
    vec![
        ("/v1/chat/completions", post(chat::complete)),
        ("/v1/completions", post(completions::complete)),
        ("/v1/responses", post(responses::create)),
        ("/v1/responses/{id}", get(responses::retrieve).delete(responses::delete)),
        ("/v1/responses/{id}/cancel", post(responses::cancel)),
        ("/v1/responses/{id}/input_items", get(responses::input_items)),
        ("/v1/embeddings", post(embeddings::embed)),
        ("/v1/rerank", post(rerank::rerank)),
        ("/v1/score", post(rerank::score)),
        ("/v1/messages", post(messages::create)),
        ("/v1/messages/count_tokens", post(messages::count)),
        ("/v1/load_lora_adapter", post(adapters::load)),
        ("/v1/unload_lora_adapter", post(adapters::unload)),
        ("/v1/models", get(models::list).post(launch::launch)),
        ("/v1/models/{name}", get(models::one).delete(running::terminate)),
        ("/v1/models/{name}/{*rest}", get(models::one_with_slashes)),
        ("/chat/completions", post(chat::complete)),
        ("/completions", post(completions::complete)),
        ("/embeddings", post(embeddings::embed)),
        ("/models", get(models::list)),
        ("/rerank", post(rerank::rerank)),
        ("/score", post(rerank::score)),
        ("/v2/rerank", post(rerank::rerank)),
        ("/", post(glm::root).get(page::index)),
        ("/ui/{*name}", get(page::file)),
        ("/catalogue", get(catalogue::list)),
        ("/catalogue/{*name}", get(catalogue::one)),
        ("/chat", post(glm::chat)),
        ("/chat-stream", post(glm::chat_stream)),
        ("/embedding", post(glm::embedding)),
        ("/tokenize", post(tokens::tokenize)),
        ("/detokenize", post(tokens::detokenize)),
        ("/apply-template", post(tokens::apply_template)),
        ("/health", get(status::health)),
        ("/livez", get(status::live)),
        ("/readyz", get(status::health)),
        ("/version", get(status::version)),
        ("/metrics", get(status::metrics)),
        ("/openapi.json", get(status::openapi)),
        ("/docs", get(status::docs)),
        ("/ping", get(status::live)),
        ("/favicon.ico", get(status::icon)),
    ]
}

/// Those of Xinference that have nothing in common with another API's.
fn xinference_routes() -> Vec<(&'static str, MethodRouter<Arc<App>>)> {
    vec![
        ("/v1/models/{name}/progress", get(launch::progress)),
        ("/v1/models/{name}/cancel", post(launch::cancel)),
        ("/v1/models/{name}/events", get(launch::events)),
        ("/v1/models/{name}/replicas", get(running::replicas).post(running::other_replicas)),
        ("/v1/models/{name}/replicas/{replica}", delete(running::other_replicas)),
        ("/v1/models/{name}/requests/{request}/abort", post(running::abort)),
        ("/v1/models/instances", get(running::instances)),
        ("/v1/models/families", get(registrations::families)),
        ("/v1/models/prompts", get(registrations::prompts)),
        ("/v1/models/vllm-supported", get(registrations::vllm_supported)),
        ("/v1/engines/{name}", get(registrations::engines_of_llm)),
        ("/v1/engines/{type}/{name}", get(registrations::engines)),
        ("/v1/model_registrations/{type}", get(registrations::list).post(registrations::register)),
        ("/v1/model_registrations/{type}/{name}", get(registrations::one).delete(registrations::unregister)),
        ("/v1/cache/models", get(files::list).delete(files::remove)),
        ("/v1/cache/models/files", get(files::paths)),
        ("/v1/cached/list_cached_models", get(files::list)),
        ("/v1/cluster/auth", get(cluster::auth)),
        ("/v1/cluster/info", get(cluster::info)),
        ("/v1/cluster/version", get(cluster::version)),
        ("/v1/cluster/devices", get(cluster::devices)),
        ("/v1/address", get(cluster::address)),
        ("/v1/workers", get(cluster::workers)),
        ("/v1/supervisor", get(cluster::supervisor)),
        ("/status", get(cluster::status)),
    ]
}

/// Those of Ollama.
fn ollama_routes() -> Vec<(&'static str, MethodRouter<Arc<App>>)> {
    vec![
        ("/api/chat", post(ollama::chat::chat)),
        ("/api/generate", post(ollama::generate::generate)),
        ("/api/tags", get(ollama::models::tags)),
        ("/api/show", post(ollama::models::show)),
        ("/api/ps", get(ollama::models::ps)),
        ("/api/version", get(ollama::models::version)),
        ("/api/embed", post(ollama::embed::embed)),
        ("/api/embeddings", post(ollama::embed::embeddings)),
        ("/api/pull", post(ollama::pull::pull)),
        ("/api/create", post(ollama::create::create)),
        ("/api/copy", post(ollama::copies::copy)),
        ("/api/delete", delete(ollama::copies::delete)),
        ("/api/push", post(ollama::copies::push)),
        ("/api/blobs/{digest}", post(ollama::copies::no_blob).head(ollama::copies::has_blob)),
    ]
}

/// The paths there are.
#[cfg(test)]
pub(crate) fn paths() -> Vec<&'static str> {
    routes().into_iter().map(|(path, _)| path).collect()
}

/// From a request to its answer.
pub(crate) fn router(app: &Arc<App>) -> Result<Router, ServerError> {
    let mut router = Router::new();
    for (path, method) in routes() {
        router = router.route(path, method);
    }
    around(router, app)
}

/// What every request goes through, whatever its path.
fn around(router: Router<Arc<App>>, app: &Arc<App>) -> Result<Router, ServerError> {
    let router = router
        .fallback(async |request: Request| ApiError::no_path(request.method().as_str(), request.uri().path()))
        .method_not_allowed_fallback(async |request: Request| {
            ApiError::no_method(request.method().as_str(), request.uri().path())
        })
        // A fault in one request's way is that request's alone.
        .layer(CatchPanicLayer::custom(|_| {
            ApiError::internal("the request met a fault in the server").into_response()
        }))
        .layer(axum::middleware::from_fn_with_state(app.clone(), access::control))
        .with_state(app.clone());
    // Before a path is looked for.
    let router = Router::new().fallback_service(MapRequest::new(router, with_plain_path));
    Ok(match cors(&app.options.cors_origins)? {
        Some(cors) => router.layer(cors),
        None => router,
    })
}

/// Forgives slashes too many: `//v1/models/` is `/v1/models`.
fn with_plain_path(mut request: Request) -> Request {
    let path = request.uri().path();
    if !path.contains("//") && (path == "/" || !path.ends_with('/')) {
        return request;
    }
    let names: Vec<&str> = path.split('/').filter(|name| !name.is_empty()).collect();
    let query = request.uri().query().map_or(String::new(), |query| format!("?{query}"));
    let mut parts = request.uri().clone().into_parts();
    parts.path_and_query = format!("/{}{query}", names.join("/")).parse().ok();
    if let Ok(uri) = Uri::from_parts(parts) {
        *request.uri_mut() = uri;
    }
    request
}

fn cors(origins: &[String]) -> Result<Option<CorsLayer>, ServerError> {
    if origins.is_empty() {
        return Ok(None);
    }
    let layer = CorsLayer::new()
        .allow_methods([Method::GET, Method::POST, Method::DELETE])
        .allow_headers(AllowHeaders::mirror_request())
        .expose_headers([header::HeaderName::from_static("x-request-id"), header::RETRY_AFTER]);
    if origins.iter().any(|origin| origin == "*") {
        return Ok(Some(layer.allow_origin(Any)));
    }
    let parse = |origin: &String| {
        HeaderValue::from_str(origin)
            .map_err(|_| ServerError::Option(format!("{origin:?} is no origin such as https://example.org")))
    };
    let origins: Vec<HeaderValue> = origins.iter().map(parse).collect::<Result<_, _>>()?;
    Ok(Some(layer.allow_origin(origins)))
}

#[cfg(test)]
mod fields;

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use axum::Router;
    use axum::body::Body;
    use axum::http::Request;
    use axum::routing::get;
    use http_body_util::BodyExt;
    use serde_json::Value;
    use tower::ServiceExt;

    use crate::app::App;
    use crate::options::Options;

    #[tokio::test]
    async fn a_fault_is_the_requests_alone() {
        async fn fault() -> &'static str {
            panic!("as the test wants");
        }
        let app = App::new(Options::for_batch(), None).unwrap();
        let faulty: Router<Arc<App>> = Router::new().route("/fault", get(fault)).route("/fine", get("fine"));
        let router = super::around(faulty, &app).unwrap();
        let ask = async |path: &str| {
            let request = Request::get(path).body(Body::empty()).unwrap();
            router.clone().oneshot(request).await.unwrap()
        };
        for _ in 0..3 {
            let response = ask("/fault").await;
            assert_eq!(response.status(), 500);
            let body: Value =
                serde_json::from_slice(&response.into_body().collect().await.unwrap().to_bytes()).unwrap();
            assert_eq!(body["error"]["type"], "server_error");
            assert_eq!(ask("/fine").await.status(), 200);
        }
    }

    #[test]
    fn every_path_is_described_and_no_other() {
        let description: Value = serde_json::from_str(crate::api::status::OPENAPI).unwrap();
        let mut described: Vec<String> = description["paths"].as_object().unwrap().keys().cloned().collect();
        let mut there: Vec<String> = super::paths().iter().map(|path| path.replace("{*", "{")).collect();
        described.sort();
        there.sort();
        assert_eq!(described, there);
    }
}
