//! Transactions that are repeated when that is safe.

mod attempt;
mod run;
mod slot;

pub use run::TxBuilder;
pub use slot::Tx;
