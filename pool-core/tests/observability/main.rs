//! What can be seen from outside, on real servers. A binary of its own: recorders and subscribers
//! are one a process.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
#![allow(
    clippy::disallowed_methods,
    reason = "each test awaits or aborts what it spawns"
)]

mod capture;
mod certificates;
mod connections;
mod failovers;
mod secret_sessions;
mod secrets;
mod sources;
mod tables;
mod traffic;

#[path = "../cluster/support.rs"]
#[allow(
    dead_code,
    reason = "shared with another binary, which needs all of it"
)]
mod support;

#[path = "../tls/support.rs"]
#[allow(
    dead_code,
    reason = "shared with another binary, which needs all of it"
)]
mod tls;
