//! Handlers on real servers.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
#![allow(
    clippy::disallowed_methods,
    reason = "each test awaits or aborts what it spawns"
)]

#[path = "../both/mod.rs"]
mod both;
mod browser;
mod drivers;
mod own;
mod serving;
mod support;
