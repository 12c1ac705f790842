//! The pools of diesel's own connections on real servers.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
#![allow(
    clippy::disallowed_methods,
    reason = "each test awaits or aborts what it spawns"
)]

mod consistency;
mod drop_in;
mod ending;
#[path = "../cluster/events.rs"]
mod events;
mod failover;
mod instrumentation;
mod interact;
mod login;
#[cfg(feature = "migrations")]
mod migrations;
mod outcome;
#[cfg(feature = "migrations")]
#[path = "../cluster/steps.rs"]
mod steps;
mod support;
mod transactions;

/// The same tests on both pools: what they show of diesel's own, leadpool's does too.
#[path = "."]
mod on_diesels {
    use diesel::r2d2;

    #[path = "relied_on.rs"]
    mod relied_on;
}
#[path = "."]
mod on_leadpools {
    use leadpool_diesel::blocking::r2d2;

    #[expect(clippy::duplicate_mod, reason = "with other types")]
    #[path = "relied_on.rs"]
    mod relied_on;
}
