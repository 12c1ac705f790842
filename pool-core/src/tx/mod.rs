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

#[cfg(feature = "backoff")]
pub use backoff::backoff_pauses;
pub(crate) use budget::Budget;
pub use hooks::{Attempt, Resolved, Retry};
pub use options::IsolationLevel;
pub(crate) use options::{Options, SIGN};
pub use replay::Replay;
pub(crate) use runner::{Failure, run};
