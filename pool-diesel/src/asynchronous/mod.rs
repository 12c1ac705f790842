//! diesel-async: connections that leadpool opens, pooled by deadpool.

mod builder;
mod driver;
mod error;
mod follow;
mod handles;
mod lease;
mod manager;
#[cfg(feature = "migrations")]
mod migrations;
mod opening;
mod pool;
mod read_only;
mod reader_at;
mod recycle;
mod sessions;
mod tx;
#[cfg(feature = "web")]
mod web;

pub use builder::PoolBuilder;
use diesel_async::{AsyncPgConnection, pooled_connection::deadpool as pooled};
pub use error::Error;
pub use pool::Pool;
pub use read_only::ReadOnly;
pub use tx::{AsyncFuncOnce, Tx, TxBuilder};
#[cfg(feature = "web")]
pub use web::told;

/// diesel-async's own pooled connection.
type Object = pooled::Object<AsyncPgConnection>;
/// Why [`Pool::get`] gave no connection: diesel-async's own type, so that code which handles it
/// stays as it is. What leadpool has to say travels inside of it: [`Error::inside`].
pub type PoolError = pooled::PoolError;
