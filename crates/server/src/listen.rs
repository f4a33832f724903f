//! The socket: who may listen where, connections and their limits, signals, the orderly end.

use std::net::{SocketAddr, TcpListener as StdListener, ToSocketAddrs};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use hyper_util::service::TowerToHyperService;
use serde_json::{Map, Value};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};

use crate::app::{App, router};
use crate::embeddings::Embedder;
use crate::error::ServerError;
use crate::notify::notify;
use crate::options::Options;
use crate::served::Served;
use crate::stall::Stalling;

#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
type Tls = tokio_rustls::TlsAcceptor;
/// Where there is no TLS there is no value of its type.
#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
type Tls = std::convert::Infallible;

/// A server that listens. It says that it is loading until it is given its models.
pub struct Server {
    app: Arc<App>,
    address: SocketAddr,
    stop: Arc<Notify>,
    thread: JoinHandle<Result<(), ServerError>>,
}

impl Server {
    /// Checks the options and begins to listen, on a thread of its own.
    ///
    /// # Errors
    /// [`ServerError`]: an address that cannot be had or that others could reach without a key, files that cannot be
    /// read.
    pub fn start(options: Options) -> Result<Self, ServerError> {
        let listener = bind(&options)?;
        let address = listener.local_addr()?;
        let tls = tls(&options)?;
        let app = App::new(options)?;
        let router = router(&app)?;
        let stop = Arc::new(Notify::new());
        // The engine wants the processors; a connection needs little.
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .max_blocking_threads(8)
            .thread_name("http")
            .enable_all()
            .build()?;
        let (shared, stopped) = (app.clone(), stop.clone());
        let thread = std::thread::Builder::new().name("server".to_owned()).spawn(move || {
            let result = runtime.block_on(serve(listener, tls, router, &shared, &stopped));
            // What is still computed for nobody need not be waited for.
            runtime.shutdown_timeout(Duration::from_secs(1));
            shared.close();
            result
        })?;
        Ok(Server { app, address, stop, thread })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Hands over the models, the first of which is the one that is meant where requests cannot say, and an encoder.
    pub fn ready(&self, models: Vec<Served>, embedder: Option<Embedder>) {
        let names: Vec<Value> = models
            .iter()
            .flat_map(|model| model.names.iter().cloned())
            .chain(embedder.iter().map(|one| one.name.clone()))
            .map(Value::from)
            .collect();
        self.app.ready(models, embedder);
        let mut line = Map::new();
        line.insert("address".to_owned(), self.address.to_string().into());
        line.insert("models".to_owned(), names.into());
        self.app.log.line("ready", line);
        notify("READY=1");
    }

    /// Asks the server to finish what it is at and to end.
    pub fn stop(&self) {
        self.stop.notify_one();
    }

    /// Waits until the server has ended: after SIGTERM, SIGINT or [`Server::stop`].
    ///
    /// # Errors
    /// What ended it otherwise.
    pub fn wait(self) -> Result<(), ServerError> {
        match self.thread.join() {
            Ok(result) => result,
            Err(_) => Err(ServerError::Option("the server's thread has panicked".to_owned())),
        }
    }
}

/// Listens where the options say, if others than this machine's users may.
fn bind(options: &Options) -> Result<StdListener, ServerError> {
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

#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
fn tls(options: &Options) -> Result<Option<Tls>, ServerError> {
    options.tls.as_ref().map(|(certificates, key)| crate::tls::acceptor(certificates, key)).transpose()
}

#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
fn tls(options: &Options) -> Result<Option<Tls>, ServerError> {
    match options.tls {
        None => Ok(None),
        Some(_) => Err(ServerError::Tls("there is none on this kind of processor".to_owned())),
    }
}

async fn serve(
    listener: StdListener,
    tls: Option<Tls>,
    router: axum::Router,
    app: &Arc<App>,
    stop: &Notify,
) -> Result<(), ServerError> {
    let listener = TcpListener::from_std(listener)?;
    let places = Arc::new(Semaphore::new(app.options.limits.connections.clamp(1, Semaphore::MAX_PERMITS)));
    let graceful = GracefulShutdown::new();
    let mut signals = Signals::new()?;
    loop {
        tokio::select! {
            () = stop.notified() => break,
            signal = signals.next() => match signal {
                Signal::Stop if app.models().is_err() => {
                    // Nobody is served yet, and loading cannot be interrupted.
                    app.log.close();
                    std::process::exit(0);
                }
                Signal::Stop => break,
                Signal::Reload => reload(app),
            },
            (stream, place) = accept(&listener, &places) => {
                let (app, router, tls) = (app.clone(), router.clone(), tls.clone());
                let watcher = graceful.watcher();
                tokio::spawn(async move {
                    app.metrics.connections.add(1);
                    // What goes wrong with a connection is its client's business.
                    let _ = converse(stream, tls, router, &app, watcher).await;
                    app.metrics.connections.sub(1);
                    drop(place);
                });
            }
        }
    }
    drop(listener);
    app.drain();
    app.log.line("stopping", Map::new());
    notify("STOPPING=1");
    tokio::select! {
        () = graceful.shutdown() => {}
        () = tokio::time::sleep(app.options.limits.drain_time) => {}
        () = async { while !matches!(signals.next().await, Signal::Stop) {} } => {}
    }
    app.log.line("stopped", Map::new());
    Ok(())
}

fn reload(app: &App) {
    if !app.keys.are_wanted() {
        return;
    }
    let mut line = Map::new();
    match app.keys.reload() {
        Ok(count) => line.insert("keys".to_owned(), count.into()),
        Err(error) => line.insert("error".to_owned(), error.to_string().into()),
    };
    app.log.line("keys read again", line);
}

/// The next connection, when there is a place for it.
async fn accept(listener: &TcpListener, places: &Arc<Semaphore>) -> (TcpStream, OwnedSemaphorePermit) {
    loop {
        let place = places.clone().acquire_owned().await.expect("the semaphore is never closed");
        match listener.accept().await {
            Ok((stream, _)) => return (stream, place),
            // Out of files, or the client is gone already: neither is for ever.
            Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
        }
    }
}

type Watcher = hyper_util::server::graceful::Watcher;

#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
async fn converse(
    stream: TcpStream,
    tls: Option<Tls>,
    router: axum::Router,
    app: &App,
    watcher: Watcher,
) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    stream.set_nodelay(true)?;
    match tls {
        None => converse_over(stream, router, app, watcher).await,
        Some(tls) => {
            let stream = tokio::time::timeout(app.options.limits.head_time, tls.accept(stream)).await??;
            converse_over(stream, router, app, watcher).await
        }
    }
}

#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
async fn converse(
    stream: TcpStream,
    _: Option<Tls>,
    router: axum::Router,
    app: &App,
    watcher: Watcher,
) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    stream.set_nodelay(true)?;
    converse_over(stream, router, app, watcher).await
}

async fn converse_over(
    stream: impl AsyncRead + AsyncWrite + Unpin + 'static,
    router: axum::Router,
    app: &App,
    watcher: Watcher,
) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    let limits = &app.options.limits;
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

enum Signal {
    Stop,
    Reload,
}

#[cfg(unix)]
struct Signals {
    terminate: tokio::signal::unix::Signal,
    interrupt: tokio::signal::unix::Signal,
    hang_up: tokio::signal::unix::Signal,
}

#[cfg(unix)]
impl Signals {
    fn new() -> std::io::Result<Self> {
        use tokio::signal::unix::{SignalKind, signal};
        Ok(Signals {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hang_up: signal(SignalKind::hangup())?,
        })
    }

    async fn next(&mut self) -> Signal {
        tokio::select! {
            _ = self.terminate.recv() => Signal::Stop,
            _ = self.interrupt.recv() => Signal::Stop,
            _ = self.hang_up.recv() => Signal::Reload,
        }
    }
}

#[cfg(not(unix))]
struct Signals;

#[cfg(not(unix))]
impl Signals {
    fn new() -> std::io::Result<Self> {
        Ok(Signals)
    }

    async fn next(&mut self) -> Signal {
        match tokio::signal::ctrl_c().await {
            Ok(()) => Signal::Stop,
            Err(_) => std::future::pending().await,
        }
    }
}
