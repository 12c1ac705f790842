#![cfg_attr(feature = "async", doc = include_str!("../README.md"))]
#![cfg_attr(
    not(feature = "async"),
    doc = "PostgreSQL pools for diesel that follow the leader: see [`blocking`]."
)]

#[cfg(feature = "async")]
mod asynchronous;
#[cfg(feature = "blocking")]
pub mod blocking;
#[cfg(all(feature = "migrations", any(feature = "async", feature = "blocking")))]
pub mod migrations;
#[cfg(any(feature = "async", feature = "blocking"))]
mod writes;

#[cfg(all(feature = "async", feature = "web"))]
pub use asynchronous::told;
#[cfg(feature = "async")]
pub use asynchronous::{
    AsyncFuncOnce, Error, Pool, PoolBuilder, PoolError, ReadOnly, Tx, TxBuilder,
};
pub use diesel;
#[cfg(feature = "async")]
pub use diesel_async;
#[cfg(feature = "migrations")]
pub use diesel_migrations;
pub use leadpool;

#[cfg(feature = "async")]
pub mod migration_guide {
    #![doc = include_str!("asynchronous/migration_guide.md")]
}
