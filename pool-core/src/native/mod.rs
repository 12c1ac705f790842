//! tokio-postgres: connections, the transaction handle, and the pool that users get.

mod attempt;
mod burst;
mod capture;
mod checkout_options;
mod commit;
pub(crate) mod connect;
mod driver;
mod follow;
mod in_doubt;
mod kept;
mod lease;
mod limits;
mod listener;
mod pausing;
mod pool;
mod reader_at;
mod recycle;
mod refusal;
pub(crate) mod resolve;
mod run_tx;
mod session;
mod single_shot;

pub use checkout_options::CheckoutOptions;
pub(crate) use driver::Native;
pub use kept::KeptSession;
pub use lease::Tx;
pub use listener::{Gap, Listener, ListenerEvent, Notification};
pub use pool::{Pool, PoolBuilder};
pub use run_tx::TxBuilder;
