//! Transactions that are repeated when that is safe.

mod attempt;
mod func;
mod manager;
mod run;
mod slot;

pub use func::AsyncFuncOnce;
pub use run::TxBuilder;
pub use slot::Tx;
