//! Transactions that are repeated when that is safe.

mod attempt;
mod hands;
mod run;

pub use run::TxBuilder;
