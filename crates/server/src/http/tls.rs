//! TLS by rustls, with cryptography that needs no C compiler (graviola: Rust and formally verified assembly).

use std::io;
use std::path::Path;
use std::sync::Arc;

use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use crate::error::ServerError;
use crate::options::Options;

/// What turns a connection into an encrypted one.
pub(crate) type Tls = TlsAcceptor;

/// Reads certificates and key, where the options name them.
pub(crate) fn open(options: &Options) -> Result<Option<Tls>, ServerError> {
    options.tls.as_ref().map(|(certificates, key)| acceptor(certificates, key)).transpose()
}

/// Agrees with a client on encryption.
pub(crate) async fn accept(tls: Tls, stream: TcpStream) -> io::Result<TlsStream<TcpStream>> {
    tls.accept(stream).await
}

fn acceptor(certificates: &Path, key: &Path) -> Result<Tls, ServerError> {
    check_processor()?;
    let fault = |path: &Path, what: String| ServerError::File { path: path.display().to_string(), what };
    let chain = CertificateDer::pem_file_iter(certificates)
        .and_then(Iterator::collect::<Result<Vec<_>, _>>)
        .map_err(|e| fault(certificates, e.to_string()))?;
    if chain.is_empty() {
        return Err(fault(certificates, "there is no certificate in it (PEM is expected)".to_owned()));
    }
    let secret = PrivateKeyDer::from_pem_file(key).map_err(|e| fault(key, e.to_string()))?;
    let mut config = ServerConfig::builder_with_provider(Arc::new(rustls_graviola::default_provider()))
        .with_safe_default_protocol_versions()
        .and_then(|builder| builder.with_no_client_auth().with_single_cert(chain, secret))
        .map_err(|e| ServerError::Tls(e.to_string()))?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(TlsAcceptor::from(Arc::new(config)))
}

/// What graviola asks of a processor; without it, it would panic.
#[cfg(target_arch = "x86_64")]
fn check_processor() -> Result<(), ServerError> {
    let has = is_x86_feature_detected!("aes")
        && is_x86_feature_detected!("ssse3")
        && is_x86_feature_detected!("pclmulqdq")
        && is_x86_feature_detected!("avx")
        && is_x86_feature_detected!("avx2")
        && is_x86_feature_detected!("bmi1")
        && is_x86_feature_detected!("bmi2")
        && is_x86_feature_detected!("adx");
    if has { Ok(()) } else { Err(ServerError::Tls("this processor lacks AES, AVX2, BMI2 or ADX".to_owned())) }
}

/// What graviola asks of a processor; without it, it would panic.
#[cfg(target_arch = "aarch64")]
fn check_processor() -> Result<(), ServerError> {
    let has = std::arch::is_aarch64_feature_detected!("aes")
        && std::arch::is_aarch64_feature_detected!("pmull")
        && std::arch::is_aarch64_feature_detected!("sha2")
        && std::arch::is_aarch64_feature_detected!("neon");
    if has { Ok(()) } else { Err(ServerError::Tls("this processor lacks AES, SHA-2 or PMULL".to_owned())) }
}
