//! The pool on real servers.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
#![allow(
    clippy::disallowed_methods,
    reason = "each test awaits or aborts what it spawns"
)]

mod drop_in;
mod failover;
mod listener;
mod login;
#[cfg(feature = "migrate")]
mod migrations;
mod outcome;
mod pool;
mod support;
mod switch;
mod transactions;
