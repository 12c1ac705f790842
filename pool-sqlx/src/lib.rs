#![doc = include_str!("../README.md")]

mod begin;
mod connect_with;
mod driver;
mod error;
mod executor;
mod follow;
mod handles;
mod lease;
mod listener;
mod login;
#[cfg(feature = "migrate")]
mod migrate;
mod options;
mod pool;
mod reader_at;
mod recycle;
mod repeat;
mod slow;
mod sockets;
mod statement;
mod tx;
#[cfg(feature = "web")]
mod web;

pub mod migration_guide {
    #![doc = include_str!("migration_guide.md")]
}

pub use error::{Error, Interrupted};
pub use leadpool;
pub use listener::{PgListener, PgNotification};
#[cfg(feature = "migrate")]
pub use migrate::{MigrationDeadline, MigrationPhase};
pub use options::PgPoolOptions;
pub use pool::Pool;
/// The pool under the name that sqlx gives to its own.
pub use pool::Pool as PgPool;
pub use sqlx;
pub use tx::{Tx, TxBuilder};
#[cfg(feature = "web")]
pub use web::told;
