//! The browser of whoever started the program.

use std::net::SocketAddr;
use std::process::{Command, Stdio};

use crate::terminal::Terminal;

#[cfg(target_os = "macos")]
const OPENER: &str = "open";
#[cfg(windows)]
const OPENER: &str = "explorer";
#[cfg(not(any(target_os = "macos", windows)))]
const OPENER: &str = "xdg-open";

/// Opens the page of a server that listens at `address`. Where there is no browser, a note says so.
pub(crate) fn open(scheme: &str, address: SocketAddr, terminal: &Terminal) {
    let url = format!("{scheme}://{}/", reachable(address));
    let opener = Command::new(OPENER)
        .arg(&url)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn();
    let terminal = terminal.clone();
    std::thread::spawn(move || {
        let is_open = opener.and_then(|mut opener| opener.wait()).is_ok_and(|status| status.success());
        // Windows' opener always says that it failed.
        if !is_open && cfg!(not(windows)) {
            terminal.note(&format!("no browser could be opened ({OPENER}); the page is at {url}"));
        }
    });
}

/// Where this machine reaches a server that listens everywhere.
fn reachable(mut address: SocketAddr) -> SocketAddr {
    if address.ip().is_unspecified() {
        address.set_ip(match address {
            SocketAddr::V4(_) => std::net::Ipv4Addr::LOCALHOST.into(),
            SocketAddr::V6(_) => std::net::Ipv6Addr::LOCALHOST.into(),
        });
    }
    address
}

#[cfg(test)]
mod tests {
    #[test]
    fn a_server_of_every_address_is_reached_at_this_machines() {
        let reachable = |text: &str| super::reachable(text.parse().unwrap()).to_string();
        assert_eq!(reachable("0.0.0.0:80"), "127.0.0.1:80");
        assert_eq!(reachable("[::]:80"), "[::1]:80");
        assert_eq!(reachable("192.0.2.1:80"), "192.0.2.1:80");
    }
}
