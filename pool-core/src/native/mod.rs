//! tokio-postgres: connections, the transaction handle, and the pool that users get.

mod connect;
mod driver;
mod follow;
mod pool;
mod run_tx;
mod tx;

pub(crate) use driver::Native;
pub use pool::{Pool, PoolBuilder};
pub use run_tx::TxBuilder;
pub use tx::Tx;
