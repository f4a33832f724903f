//! Connections: who may listen where, and one connection with its limits.

use std::convert::Infallible;
use std::net::{SocketAddr, TcpListener as StdListener, ToSocketAddrs};
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use hyper::Request;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tower::ServiceExt;

use crate::error::ServerError;
use crate::http::places::Place;
use crate::http::stall::Stalling;
use crate::http::tls::{self, Tls};
use crate::http::unread;
use crate::options::{Options, RequestLimits};

/// How long a connection that is to end may be silent in the middle of a head.
const LEAVING: Duration = Duration::from_secs(1);

/// Listens where the options say, if others than this machine's users may.
pub(crate) fn bind(options: &Options) -> Result<StdListener, ServerError> {
    let name = format!("{}:{}", options.host, options.port);
    let fault = |source| ServerError::Listen { address: name.clone(), source };
    let host = options.host.trim_start_matches('[').trim_end_matches(']');
    let addresses: Vec<SocketAddr> = (host, options.port).to_socket_addrs().map_err(fault)?.collect();
    if !options.insecure && options.api_keys.is_none() && !addresses.iter().all(|a| a.ip().is_loopback()) {
        return Err(ServerError::Open { address: name });
    }
    let listener = StdListener::bind(addresses.as_slice()).map_err(fault)?;
    listener.set_nonblocking(true)?;
    Ok(listener)
}

/// The next connection.
pub(crate) async fn accept(listener: &TcpListener) -> TcpStream {
    loop {
        match listener.accept().await {
            Ok((stream, _)) => return stream,
            // Out of files, or the client is gone already: neither is for ever.
            Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
        }
    }
}

/// Serves requests on a connection until either side has had enough.
pub(crate) async fn serve(
    stream: TcpStream,
    tls: Option<Tls>,
    router: axum::Router,
    limits: &RequestLimits,
    place: Place,
) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    stream.set_nodelay(true)?;
    let place = Arc::new(place);
    match tls {
        None => serve_over(stream, router, limits, &place).await,
        Some(tls) => {
            let accepted = tokio::time::timeout(limits.head_time, tls::accept(tls, stream));
            let stream = tokio::select! {
                stream = accepted => stream??,
                () = place.told() => return Ok(()),
            };
            serve_over(stream, router, limits, &place).await
        }
    }
}

async fn serve_over(
    stream: impl AsyncRead + AsyncWrite + Unpin + 'static,
    router: axum::Router,
    limits: &RequestLimits,
    place: &Arc<Place>,
) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    let visited = place.clone();
    // Whoever shows the response keeps the visit until all of it was taken over to be sent.
    let service = tower::service_fn(move |mut request: Request<Incoming>| {
        request.extensions_mut().insert(Arc::new(visited.visit()));
        let router = router.clone();
        async move {
            let (request, rest) = unread::lend(request);
            let response = router.oneshot(request).await?;
            Ok::<_, Infallible>(rest.settle(response).await)
        }
    });
    let stream = Stalling::new(stream, limits.stall_time);
    let is_stuck = stream.is_stuck();
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(limits.head_time)
        .max_buf_size(64 << 10)
        .serve_connection(TokioIo::new(stream), TowerToHyperService::new(service));
    let mut connection = pin!(connection);
    tokio::select! {
        result = &mut connection => return Ok(result?),
        () = place.told() => connection.as_mut().graceful_shutdown(),
    }
    // An answer that is being made or taken is waited for, the rest of a request's head is not.
    loop {
        match tokio::time::timeout(LEAVING, &mut connection).await {
            Ok(result) => return Ok(result?),
            Err(_) if place.is_idle() && !is_stuck.load(Ordering::Relaxed) => return Ok(()),
            Err(_) => {}
        }
    }
}
