//! What can go wrong, with the state that explains it.

mod classify;
mod kinds;

pub(crate) use classify::is_connection_loss;
pub use classify::{Disposition, TxPhase};
pub use kinds::{BoxError, ConnectError, Error, InDoubt, NoHost, QueueFull};
