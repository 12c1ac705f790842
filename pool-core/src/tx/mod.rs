//! Transactions that are repeated when that is safe: options, the retry loop, its budget.
//!
//! What an attempt consists of is the driver's business (`native/tx.rs` for tokio-postgres).

mod budget;
mod options;
mod replay;
mod runner;

pub(crate) use budget::Budget;
pub use options::{IsolationLevel, Resolved, Retry};
pub(crate) use options::{Options, SIGN};
pub use replay::Replay;
pub(crate) use runner::{Failure, run};
