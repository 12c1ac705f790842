//! The pool on real servers.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
#![allow(
    clippy::disallowed_methods,
    reason = "each test awaits or aborts what it spawns"
)]

mod aurora;
mod cancellation;
mod checkout;
mod consistency;
mod discovery;
mod drop_in;
mod ending;
mod failover;
mod fencing;
mod in_doubt;
mod kept;
mod lifecycle;
mod limits;
mod listener;
mod on_connect;
mod outcome;
mod pauses;
mod production;
mod readers;
mod recycling;
mod single_shot;
mod statement_timeout;
mod support;
mod targets;
mod tokens;
mod transactions;
mod tx_options;
