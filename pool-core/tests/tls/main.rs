//! TLS with real servers, and with a certificate authority that is made here.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod bad_input;
mod binding;
mod certificates;
mod clients;
mod direct;
mod failover;
mod modes;
mod reload;
mod support;
