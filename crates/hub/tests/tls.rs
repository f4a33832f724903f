//! Over TLS, to a hub with a certificate that `SSL_CERT_FILE` names, with and without a proxy on the way.
#![cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
#![allow(clippy::unwrap_used, reason = "these are tests")]

mod support;

use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use glimmer_hub::{Hub, HubKind, HubOptions, Unwatched};
use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use support::{ID, World, check, model, request};
use tokio::io::{AsyncReadExt, AsyncWriteExt, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;

/// A certificate of its own authority for localhost, with its key.
fn data(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../cli/tests/data").join(name)
}

/// Runs what serves on threads of its own, and returns its port.
fn serve<F: Future<Output = ()> + Send + 'static>(
    make: impl FnOnce(TcpListener) -> F + Send + 'static,
) -> u16 {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    listener.set_nonblocking(true).unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_io().build().unwrap();
        runtime.block_on(async move { make(TcpListener::from_std(listener).unwrap()).await });
    });
    port
}

/// TLS before a server that has none.
fn tls_before(address: String) -> u16 {
    serve(move |listener| async move {
        let chain = CertificateDer::pem_file_iter(data("localhost.pem")).unwrap();
        let key = PrivateKeyDer::from_pem_file(data("localhost.key")).unwrap();
        let config = ServerConfig::builder_with_provider(Arc::new(rustls_graviola::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(chain.map(Result::unwrap).collect(), key)
            .unwrap();
        let acceptor = TlsAcceptor::from(Arc::new(config));
        while let Ok((stream, _)) = listener.accept().await {
            let (acceptor, address) = (acceptor.clone(), address.clone());
            tokio::spawn(async move {
                let Ok(mut outside) = acceptor.accept(stream).await else { return };
                let mut inside = TcpStream::connect(address).await.unwrap();
                drop(copy_bidirectional(&mut outside, &mut inside).await);
            });
        }
    })
}

/// A proxy that makes ways for who has its password, and counts them.
fn proxy(count: Arc<AtomicUsize>) -> u16 {
    serve(move |listener| async move {
        while let Ok((mut outside, _)) = listener.accept().await {
            let count = Arc::clone(&count);
            tokio::spawn(async move {
                let mut head = Vec::new();
                while !head.ends_with(b"\r\n\r\n") {
                    head.push(outside.read_u8().await.unwrap());
                }
                let head = String::from_utf8(head).unwrap();
                // `user:pass` in base64.
                if !head.contains("Proxy-Authorization: Basic dXNlcjpwYXNz\r\n") {
                    outside.write_all(b"HTTP/1.1 407 Who are you\r\n\r\n").await.unwrap();
                    return;
                }
                let target = head.split(' ').nth(1).unwrap().to_owned();
                let mut inside = TcpStream::connect(target).await.unwrap();
                outside.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await.unwrap();
                count.fetch_add(1, Ordering::Relaxed);
                drop(copy_bidirectional(&mut outside, &mut inside).await);
            });
        }
    })
}

/// Pulls in a process of its own, because the environment says whom to trust.
fn pull(world: &World, port: u16, variables: &[(&str, &str)]) -> Output {
    Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "pulls_in_a_process_of_its_own", "--nocapture"])
        .env("PULL_OVER_TLS", "1")
        .env("HF_ENDPOINT", format!("https://localhost:{port}"))
        .env("HF_HUB_CACHE", world.cache.path())
        .env("NO_PROXY", "127.0.0.1")
        .envs(variables.iter().copied())
        .output()
        .unwrap()
}

/// The other half of these tests.
#[test]
fn pulls_in_a_process_of_its_own() {
    if std::env::var_os("PULL_OVER_TLS").is_some() {
        let hub = Hub::new(HubOptions::from_env(HubKind::HuggingFace).unwrap()).unwrap();
        check(&hub.pull(&request(ID), &Unwatched).unwrap().directory, &model(1));
    }
}

#[test]
fn a_hub_that_is_trusted_is_used() {
    let world = World::new();
    let port = tls_before(world.server.endpoint.replace("http://", ""));
    let trusted = data("localhost.pem");
    let output = pull(&world, port, &[("SSL_CERT_FILE", trusted.to_str().unwrap())]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn a_hub_that_is_not_trusted_is_not() {
    let world = World::new();
    let port = tls_before(world.server.endpoint.replace("http://", ""));
    let wrong = data("localhost.key");
    for (file, expected) in
        [("", "nvalid peer certificate"), (wrong.to_str().unwrap(), "no certificate in it")]
    {
        let output = pull(&world, port, &[("SSL_CERT_FILE", file)]);
        assert!(!output.status.success());
        let said =
            String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
        // A machine without certificates trusts nobody, either.
        assert!(said.contains(expected) || said.contains("ca-certificates"), "{said}");
    }
    assert!(world.server.seen().is_empty());
}

#[test]
fn a_proxy_makes_a_way() {
    let world = World::new();
    let port = tls_before(world.server.endpoint.replace("http://", ""));
    let count = Arc::new(AtomicUsize::new(0));
    let proxy = proxy(Arc::clone(&count));
    let trusted = data("localhost.pem");
    let with = |user: &str| {
        let address = format!("http://{user}127.0.0.1:{proxy}");
        pull(&world, port, &[("SSL_CERT_FILE", trusted.to_str().unwrap()), ("HTTPS_PROXY", &address)])
    };
    let refused = with("");
    assert!(!refused.status.success());
    assert!(world.server.seen().is_empty());
    let output = with("user:pass@");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(count.load(Ordering::Relaxed) > 0);
}
