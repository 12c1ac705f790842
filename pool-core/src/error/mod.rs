//! What can go wrong, with the state that explains it.

mod cancelled;
mod classify;
mod driver;
mod kinds;
mod refused;
mod session;
mod sqlstate;
mod waits;
mod words;

pub use classify::{Disposition, TxPhase};
pub(crate) use classify::{is_connection_loss, is_lost};
pub use driver::DriverError;
use driver::adapter_error;
pub(crate) use kinds::driver_error;
pub(crate) use words::{in_words, tls_error};

pub use crate::tls::TlsError;
pub use kinds::{BoxError, ConnectError, Error, InDoubt};
pub use refused::TokenRefused;
pub use session::{HookFailed, SessionMoved};
pub use waits::{NoHost, Overloaded, Paused, QueueFull};
