//! The server: it listens, minds signals, and ends in order.

use std::net::{SocketAddr, TcpListener as StdListener};
use std::path::PathBuf;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use glimmer::Registry;
use serde_json::{Map, Value};
use tokio::net::TcpListener;
use tokio::sync::Notify;

use crate::app::App;
use crate::clock::now;
use crate::error::ServerError;
use crate::http::connection::{self, accept};
use crate::http::places::Places;
use crate::http::tls::{self, Tls};
use crate::launcher::Launcher;
use crate::models::adapters::KnownAdapter;
use crate::options::Options;
use crate::router::router;
use crate::server::notify::notify;
use crate::server::signals::{Signal, Signals};

mod notify;
mod signals;

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
        let listener = connection::bind(&options)?;
        let address = listener.local_addr()?;
        let tls = tls::open(&options)?;
        let app = App::new(options, Some(address))?;
        let router = router(&app)?;
        let stop = Arc::new(Notify::new());
        // The engine wants the processors; a connection needs little.
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .max_blocking_threads(8)
            .thread_name("http")
            .enable_all()
            .build()?;
        // Before anybody is told that the server is there: whoever knows it may stop it.
        let signals = {
            let _inside = runtime.enter();
            Signals::new()?
        };
        let (shared, stopped) = (app.clone(), stop.clone());
        let thread = std::thread::Builder::new().name("server".to_owned()).spawn(move || {
            let result = runtime.block_on(serve(listener, tls, router, &shared, &stopped, signals));
            // What is still computed for nobody need not be waited for.
            runtime.shutdown_timeout(Duration::from_secs(1));
            shared.record.close();
            result
        })?;
        Ok(Server { app, address, stop, thread })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Lets clients launch models by name.
    pub fn launch_with(&self, launcher: Arc<dyn Launcher>) {
        self.app.launch_with(launcher);
    }

    /// Hands over the models, loaded or not, the first of which is the one that is meant where requests cannot say, and
    /// adapters of that one, which requests name as models: names and directories.
    ///
    /// # Errors
    /// [`ServerError::Adapter`] where one cannot be read, is for another model, or is called as a model is.
    pub fn ready(&self, registry: Registry, adapters: &[(String, PathBuf)]) -> Result<(), ServerError> {
        let names = registry.names();
        self.app.ready(registry);
        for (name, path) in adapters {
            let parent = names.first().cloned().unwrap_or_default();
            let adapter = KnownAdapter { name: name.clone(), parent, path: path.clone(), created: now() };
            let known = self.app.models().and_then(|models| models.load_adapter_now(adapter));
            known.map_err(|error| ServerError::Adapter(error.message()))?;
        }
        let mut line = Map::new();
        line.insert("address".to_owned(), self.address.to_string().into());
        line.insert("models".to_owned(), names.into_iter().map(Value::from).collect());
        self.app.record.log.line("ready", line);
        notify("READY=1");
        Ok(())
    }

    /// Asks the server to finish what it is at and to end.
    pub fn stop(&self) {
        self.stop.notify_one();
    }

    /// Waits until the server has ended: after SIGTERM, SIGINT or [`Server::stop`].
    ///
    /// # Errors
    /// What ended it otherwise: [`ServerError::Engine`] where a model's device is lost.
    pub fn wait(self) -> Result<(), ServerError> {
        match self.thread.join() {
            Ok(result) => result,
            Err(_) => Err(ServerError::Panic("the server's thread has panicked".to_owned())),
        }
    }
}

async fn serve(
    listener: StdListener,
    tls: Option<Tls>,
    router: axum::Router,
    app: &Arc<App>,
    stop: &Notify,
    mut signals: Signals,
) -> Result<(), ServerError> {
    let listener = TcpListener::from_std(listener)?;
    let places = Places::new(app.options.limits.connections);
    tokio::spawn(app.bodies.clone().give_back());
    let mut newcomer = None;
    loop {
        tokio::select! {
            () = stop.notified() => break,
            () = app.engine_end.wait() => break,
            signal = signals.next() => match signal {
                Signal::Stop if app.models().is_err() => {
                    // Nobody is served yet, and loading cannot be interrupted.
                    app.record.log.close();
                    std::process::exit(0);
                }
                Signal::Stop => break,
                Signal::Reload => reload(app),
            },
            stream = accept(&listener), if newcomer.is_none() => newcomer = Some(stream),
            place = places.take(), if newcomer.is_some() => {
                let Some(stream) = newcomer.take() else { continue };
                let (app, router, tls) = (app.clone(), router.clone(), tls.clone());
                tokio::spawn(async move {
                    app.record.metrics.connections.add(1);
                    // What goes wrong with a connection is its client's business.
                    let _ = connection::serve(stream, tls, router, &app.options.limits, place).await;
                    app.record.metrics.connections.sub(1);
                });
            }
        }
    }
    drop((listener, newcomer));
    app.drain();
    let mut line = Map::new();
    if let Some(why) = app.engine_end.get() {
        line.insert("error".to_owned(), why.into());
    }
    app.record.log.line("stopping", line);
    notify("STOPPING=1");
    places.close();
    tokio::select! {
        () = places.empty() => {}
        () = tokio::time::sleep(app.options.limits.drain_time) => {}
        () = async { while !matches!(signals.next().await, Signal::Stop) {} } => {}
    }
    app.record.log.line("stopped", Map::new());
    app.engine_end.get().map_or(Ok(()), |why| Err(ServerError::Engine(why)))
}

/// Reads the keys again where nobody waits for it: a file may lie on a disk that does not answer.
fn reload(app: &Arc<App>) {
    let app = app.clone();
    tokio::task::spawn_blocking(move || {
        let mut line = Map::new();
        match app.keys.reload() {
            None => return,
            Some(Ok(count)) => line.insert("keys".to_owned(), count.into()),
            Some(Err(error)) => {
                line.insert("error".to_owned(), format!("{error}; the keys stay as they were").into())
            }
        };
        app.record.log.line("keys read again", line);
    });
}
