//! The pool on real servers.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
#![allow(
    clippy::disallowed_methods,
    reason = "each test awaits or aborts what it spawns"
)]

mod closures;
mod consistency;
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

/// The same tests on both pools: what they show of sqlx's own, leadpool's does too.
#[path = "."]
mod on_sqlxs {
    use sqlx::postgres::{PgPool as Pool, PgPoolOptions};

    #[path = "relied_on.rs"]
    mod relied_on;
    #[path = "relied_on_options.rs"]
    mod relied_on_options;
}
#[path = "."]
mod on_leadpools {
    use leadpool_sqlx::{PgPoolOptions, Pool};

    #[expect(clippy::duplicate_mod, reason = "with other types")]
    #[path = "relied_on.rs"]
    mod relied_on;
    #[expect(clippy::duplicate_mod, reason = "with other types")]
    #[path = "relied_on_options.rs"]
    mod relied_on_options;
}
