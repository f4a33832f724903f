//! TLS by rustls, with cryptography that needs no C compiler, and the certificates that this system trusts.

use std::path::PathBuf;
use std::sync::Arc;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

/// Where Linux distributions keep the certificates that they trust, the commonest first.
const BUNDLES: [&str; 6] = [
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/ssl/cert.pem",
    "/opt/etc/ssl/certs/ca-certificates.crt",
];

/// What makes encrypted connections.
#[derive(Clone)]
pub(crate) struct Tls(TlsConnector);

impl Tls {
    /// Reads the trusted certificates: those of `SSL_CERT_FILE`, where it is set, else the system's.
    pub(crate) fn open() -> Result<Self, String> {
        check_processor()?;
        let mut roots = RootCertStore::empty();
        let named = std::env::var_os("SSL_CERT_FILE").filter(|name| !name.is_empty()).map(PathBuf::from);
        let path = match named {
            Some(path) => path,
            None => BUNDLES.iter().map(PathBuf::from).find(|path| path.is_file()).ok_or(
                "this system has no certificates to trust; install ca-certificates, or name a file with SSL_CERT_FILE",
            )?,
        };
        let fault = |what: &dyn std::fmt::Display| format!("{}: {what}", path.display());
        let certificates = CertificateDer::pem_file_iter(&path).map_err(|e| fault(&e))?;
        // A bundle may hold what this library does not know; the others serve.
        roots.add_parsable_certificates(certificates.filter_map(Result::ok));
        if roots.is_empty() {
            return Err(fault(&"there is no certificate in it"));
        }
        let mut config = ClientConfig::builder_with_provider(Arc::new(rustls_graviola::default_provider()))
            .with_safe_default_protocol_versions()
            .map_err(|e| e.to_string())?
            .with_root_certificates(roots)
            .with_no_client_auth();
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(Tls(TlsConnector::from(Arc::new(config))))
    }

    /// Agrees with a host on encryption.
    pub(crate) async fn connect(
        &self,
        host: &str,
        stream: TcpStream,
    ) -> Result<TlsStream<TcpStream>, String> {
        let name =
            ServerName::try_from(host.to_owned()).map_err(|_| "this is no name of a host".to_owned())?;
        self.0.connect(name, stream).await.map_err(|e| e.to_string())
    }
}

/// What graviola asks of a processor; without it, it would panic.
#[cfg(target_arch = "x86_64")]
fn check_processor() -> Result<(), String> {
    let has = is_x86_feature_detected!("aes")
        && is_x86_feature_detected!("ssse3")
        && is_x86_feature_detected!("pclmulqdq")
        && is_x86_feature_detected!("avx")
        && is_x86_feature_detected!("avx2")
        && is_x86_feature_detected!("bmi1")
        && is_x86_feature_detected!("bmi2")
        && is_x86_feature_detected!("adx");
    if has { Ok(()) } else { Err("for https this processor lacks AES, AVX2, BMI2 or ADX".to_owned()) }
}

/// What graviola asks of a processor; without it, it would panic.
#[cfg(target_arch = "aarch64")]
fn check_processor() -> Result<(), String> {
    let has = std::arch::is_aarch64_feature_detected!("aes")
        && std::arch::is_aarch64_feature_detected!("pmull")
        && std::arch::is_aarch64_feature_detected!("sha2")
        && std::arch::is_aarch64_feature_detected!("neon");
    if has { Ok(()) } else { Err("for https this processor lacks AES, SHA-2 or PMULL".to_owned()) }
}
