//! Transactions that are repeated when that is safe: options, the retry loop, its budget.
//!
//! What an attempt consists of is the driver's business (`native/tx.rs` for tokio-postgres).

#[cfg(feature = "backoff")]
mod backoff;
mod budget;
mod hooks;
mod options;
mod replay;
mod runner;
mod transactions;

#[cfg(feature = "backoff")]
pub use backoff::backoff_pauses;
pub use budget::Budget;
pub use hooks::{Attempt, Resolved, Retry};
pub(crate) use options::SIGN;
pub use options::{IsolationLevel, Options};
pub use replay::Replay;
pub use runner::Failure;
pub use transactions::{Transactions, Try};
