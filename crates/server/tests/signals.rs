//! Alone in its program, because what a process does at a signal is the process's.
#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use glimmer_server::{Options, Server};

/// The signals that this process handles, a bit each from the lowest on (proc(5), `SigCgt`).
fn handled() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigCgt:")).unwrap();
    u64::from_str_radix(mask.trim(), 16).unwrap()
}

/// SIGHUP, SIGINT and SIGTERM by their numbers. Where a server is known they must not simply end its program.
#[test]
fn a_server_that_is_there_minds_its_signals() {
    let minded = [1, 2, 15].map(|signal| 1 << (signal - 1)).into_iter().sum::<u64>();
    assert_eq!(handled() & minded, 0);
    let server = Server::start(Options { port: 0, is_silent: true, ..Options::default() }).unwrap();
    assert_eq!(handled() & minded, minded);
    server.stop();
    server.wait().unwrap();
}
