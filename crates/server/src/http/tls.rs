//! TLS by rustls, with cryptography that needs no C compiler (graviola: Rust and formally verified assembly).

use std::io;
use std::path::Path;
use std::sync::Arc;

use rustls::ServerConfig;
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use crate::error::{ServerError, read_file};
use crate::options::Options;

/// Bytes of a file of certificates or of a key that are read at most.
const MOST: u64 = 1 << 20;

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
    let chain = chain(&read_file(certificates, MOST)?).map_err(|what| fault(certificates, what))?;
    let secret = secret(&read_file(key, MOST)?, key).map_err(|what| fault(key, what))?;
    let mut config = ServerConfig::builder_with_provider(Arc::new(rustls_graviola::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|e| ServerError::Tls(e.to_string()))?
        .with_no_client_auth()
        .with_single_cert(chain, secret)
        .map_err(|error| match error {
            rustls::Error::InconsistentKeys(_) => {
                fault(key, format!("this is not the key of the certificate in {}", certificates.display()))
            }
            rustls::Error::InvalidCertificate(error) => {
                fault(certificates, format!("the first certificate cannot be used: {error:?}"))
            }
            // What remains is of the key; rustls tells no more than that.
            _ => fault(key, "the key is damaged, or neither RSA, ECDSA nor Ed25519".to_owned()),
        })?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(TlsAcceptor::from(Arc::new(config)))
}

fn fault(path: &Path, what: String) -> ServerError {
    ServerError::File { path: path.display().to_string(), what }
}

/// The certificates of a file.
fn chain(text: &[u8]) -> Result<Vec<CertificateDer<'static>>, String> {
    let chain = CertificateDer::pem_slice_iter(text).collect::<Result<Vec<_>, _>>().map_err(|e| said(&e))?;
    if chain.is_empty() {
        return Err(
            "there is no certificate in it; PEM with -----BEGIN CERTIFICATE----- is expected".to_owned()
        );
    }
    Ok(chain)
}

/// The first private key of a file.
fn secret(text: &[u8], path: &Path) -> Result<PrivateKeyDer<'static>, String> {
    let holds = |words: &str| text.windows(words.len()).any(|window| window == words.as_bytes());
    if holds("BEGIN ENCRYPTED PRIVATE KEY") || holds("Proc-Type: 4,ENCRYPTED") {
        let path = path.display();
        return Err(format!("the key is encrypted; `openssl pkey -in {path} -out plain.key` decrypts it"));
    }
    PrivateKeyDer::from_pem_slice(text).map_err(|error| match error {
        pem::Error::NoItemsFound => {
            "there is no private key in it; PEM with -----BEGIN PRIVATE KEY----- is expected".to_owned()
        }
        error => said(&error),
    })
}

/// What is wrong with a file of PEM; the parser's own words would list bytes.
fn said(error: &pem::Error) -> String {
    match error {
        pem::Error::MissingSectionEnd { .. } => "cut short: the -----END line is missing".to_owned(),
        pem::Error::IllegalSectionStart { .. } => "a -----BEGIN line is damaged".to_owned(),
        pem::Error::Base64Decode(_) => {
            "damaged: what stands between -----BEGIN and -----END is no base64".to_owned()
        }
        other => other.to_string(),
    }
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
