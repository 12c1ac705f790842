//! Hosts that say nothing: in whatever phase, nobody waits beyond a deadline of his own, and a
//! query in flight ends soon after its host; but a slow host is none that is gone.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
#![allow(
    clippy::disallowed_methods,
    reason = "each test awaits or aborts what it spawns"
)]

mod gone;
mod living;
mod phases;
mod stalling;
#[path = "../cluster/support.rs"]
#[allow(dead_code, reason = "shared with the tests of the cluster")]
mod support;
