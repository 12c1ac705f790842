//! Transactions that are repeated when that is safe: options, the retry loop, its budget.
//!
//! What is sent is the driver's business (`native/attempt.rs` and `native/commit.rs` for
//! tokio-postgres).

mod attempt;
mod awake;
#[cfg(feature = "backoff")]
mod backoff;
mod budget;
mod commit;
mod hooks;
mod options;
mod replay;
mod resolve;
mod runner;
mod token;
mod transactions;

pub use attempt::TxAttempt;
pub(crate) use awake::Awake;
#[cfg(feature = "backoff")]
pub use backoff::backoff_pauses;
pub use budget::Budget;
pub(crate) use commit::ABORTED;
pub use commit::Commit;
pub use hooks::{Attempt, Resolved, Retry};
pub use options::{IsolationLevel, Options, SIGN};
pub use replay::Replay;
pub use resolve::{Resolve, Unresolved};
pub use runner::Failure;
pub use token::TokenSlot;
pub use transactions::{Transactions, Try};
