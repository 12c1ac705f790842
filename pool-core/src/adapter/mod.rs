//! For authors of adapters: what a pool for another driver is made of.
//!
//! An application needs nothing of this; `leadpool-sqlx` is built on it. It may change with each
//! minor version of leadpool, so an adapter names the version exactly.

pub use crate::{
    pool::{Driver, Generation, GetError, Purpose, Stamp, SubPools},
    tx::{Budget, Failure, Options, Transactions, Try},
};
