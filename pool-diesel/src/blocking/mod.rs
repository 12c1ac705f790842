#![doc = include_str!("README.md")]

mod builder;
mod connect;
mod connection;
mod deadlock;
mod driver;
mod error;
mod inner;
mod interact;
mod login;
#[cfg(feature = "migrations")]
mod migrations;
mod pool;
pub mod r2d2;
mod read_only;
mod reader_at;
mod runtime;
mod session;
mod socket;
mod tx;
#[cfg(feature = "web")]
mod web;

pub mod migration_guide {
    #![doc = include_str!("migration_guide.md")]
}

pub use builder::Builder;
pub use connection::{PoolTransactionManager, PooledConnection};
pub use error::Error;
pub use interact::{InteractError, InteractPool, Object};
pub use pool::{Pool, State};
pub use tx::TxBuilder;
#[cfg(feature = "web")]
pub use web::{WebTx, told};
