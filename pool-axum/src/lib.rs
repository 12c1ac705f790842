#![doc = include_str!("../README.md")]

mod answer;
mod dashboard;
mod deadline;
mod error;
mod extract;
mod health;
mod patroni;
mod read_your_writes;
mod serve;
mod transactions;

pub use dashboard::Dashboard;
pub use deadline::{Deadline, DeadlineService, TimeLeft};
pub use error::{Cause, Error};
pub use extract::{Reader, Tx, Writer};
pub use health::Health;
pub use leadpool::{
    self,
    web::{CallbackError, InvalidCarrier, Problem, Readiness},
};
#[cfg(any(feature = "diesel", feature = "diesel-blocking"))]
pub use leadpool_diesel;
#[cfg(feature = "sqlx")]
pub use leadpool_sqlx;
pub use patroni::PatroniCallback;
pub use read_your_writes::{ReadYourWrites, ReadYourWritesService, Seen};
pub use serve::{serve, serve_until};
pub use transactions::{Transactions, TransactionsService};
