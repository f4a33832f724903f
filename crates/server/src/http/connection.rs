//! Connections: who may listen where, and one connection with its limits.

use std::net::{SocketAddr, TcpListener as StdListener, ToSocketAddrs};
use std::sync::Arc;
use std::time::Duration;

use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::Watcher;
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::error::ServerError;
use crate::http::stall::Stalling;
use crate::http::tls::{self, Tls};
use crate::options::{Options, RequestLimits};

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

/// The next connection, when there is a place for it.
pub(crate) async fn accept(
    listener: &TcpListener,
    places: &Arc<Semaphore>,
) -> (TcpStream, OwnedSemaphorePermit) {
    loop {
        let place = places.clone().acquire_owned().await.expect("the semaphore is never closed");
        match listener.accept().await {
            Ok((stream, _)) => return (stream, place),
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
    watcher: Watcher,
) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    stream.set_nodelay(true)?;
    match tls {
        None => serve_over(stream, router, limits, watcher).await,
        Some(tls) => {
            let stream = tokio::time::timeout(limits.head_time, tls::accept(tls, stream)).await??;
            serve_over(stream, router, limits, watcher).await
        }
    }
}

async fn serve_over(
    stream: impl AsyncRead + AsyncWrite + Unpin + 'static,
    router: axum::Router,
    limits: &RequestLimits,
    watcher: Watcher,
) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(limits.head_time)
        .max_buf_size(64 << 10)
        .serve_connection(
            TokioIo::new(Stalling::new(stream, limits.stall_time)),
            TowerToHyperService::new(router),
        );
    Ok(watcher.watch(connection).await?)
}
