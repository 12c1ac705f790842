//! What can go wrong, with the state that explains it.

mod classify;
mod kinds;
mod sqlstate;

pub(crate) use classify::is_connection_loss;
pub use classify::{Disposition, TxPhase};
pub(crate) use kinds::driver_error;
pub use kinds::{BoxError, ConnectError, Error, InDoubt, NoHost, QueueFull};
