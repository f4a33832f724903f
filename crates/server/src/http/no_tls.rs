//! Where there is no TLS: a processor for which its cryptography was not written.

use std::convert::Infallible;
use std::io;

use tokio::net::TcpStream;

use crate::error::ServerError;
use crate::options::Options;

/// There is no value of it.
pub(crate) type Tls = Infallible;

/// Refuses certificates.
pub(crate) fn open(options: &Options) -> Result<Option<Tls>, ServerError> {
    match options.tls {
        None => Ok(None),
        Some(_) => Err(ServerError::Tls("there is none on this kind of processor".to_owned())),
    }
}

/// Never called.
pub(crate) async fn accept(tls: Tls, _: TcpStream) -> io::Result<TcpStream> {
    match tls {}
}
