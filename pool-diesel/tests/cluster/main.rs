//! The pool on real servers.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
#![allow(
    clippy::disallowed_methods,
    reason = "each test awaits or aborts what it spawns"
)]

mod closures;
mod consistency;
mod differences;
mod drop_in;
mod events;
mod failover;
mod instrumentation;
mod login;
#[cfg(feature = "migrations")]
mod migrations;
mod other_pools;
mod outcome;
mod pools;
mod retries;
#[cfg(feature = "migrations")]
mod steps;
mod support;
mod transactions;

/// The same tests on all pools: what they show of diesel-async's own, the others do too. A connection
/// of `on_followers` is as one of `on_leadpools`.
#[path = "."]
mod on_diesels {
    use crate::pools::diesels::{Pool, gauges, open};

    #[path = "relied_on.rs"]
    mod relied_on;
    #[path = "relied_on_connections.rs"]
    mod relied_on_connections;
}
#[path = "."]
mod on_leadpools {
    use crate::pools::leadpools::{Pool, gauges, open};

    #[expect(clippy::duplicate_mod, reason = "with other types")]
    #[path = "relied_on.rs"]
    mod relied_on;
    #[expect(clippy::duplicate_mod, reason = "with other types")]
    #[path = "relied_on_connections.rs"]
    mod relied_on_connections;
}
#[path = "."]
mod on_followers {
    use crate::pools::followers::{Pool, gauges, open};

    #[expect(clippy::duplicate_mod, reason = "with other types")]
    #[path = "relied_on.rs"]
    mod relied_on;
}
#[path = "."]
mod on_managed {
    use crate::pools::managed::{Pool, gauges, open};

    #[expect(clippy::duplicate_mod, reason = "with other types")]
    #[path = "relied_on.rs"]
    mod relied_on;
    #[expect(clippy::duplicate_mod, reason = "with other types")]
    #[path = "relied_on_connections.rs"]
    mod relied_on_connections;
}
