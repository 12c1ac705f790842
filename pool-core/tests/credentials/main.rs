//! Who logs in with what, on real servers that ask.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
#![allow(
    clippy::disallowed_methods,
    reason = "each test awaits or aborts what it spawns"
)]

mod failing;
mod files;
mod require_auth;
mod rotation;
mod support;
