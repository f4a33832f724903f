//! Tells systemd how it goes: `sd_notify(3)`, a datagram to the socket that it names.

/// Sends a state such as `READY=1`, where somebody wants to know.
#[cfg(target_os = "linux")]
pub(crate) fn notify(state: &str) {
    use std::os::linux::net::SocketAddrExt;
    use std::os::unix::ffi::OsStrExt;
    use std::os::unix::net::{SocketAddr, UnixDatagram};

    let Some(name) = std::env::var_os("NOTIFY_SOCKET") else { return };
    let address = match name.as_bytes() {
        [b'@', name @ ..] => SocketAddr::from_abstract_name(name),
        _ => SocketAddr::from_pathname(&name),
    };
    // A supervisor that does not listen is no reason to stop.
    let _ = address.and_then(|address| {
        let socket = UnixDatagram::unbound()?;
        socket.set_nonblocking(true)?;
        socket.send_to_addr(state.as_bytes(), &address)
    });
}

/// There is no systemd.
#[cfg(not(target_os = "linux"))]
pub(crate) fn notify(_: &str) {}
