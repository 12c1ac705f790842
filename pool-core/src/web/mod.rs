//! For authors of web crates: what an answer to an HTTP request has to do with a pool, without a
//! web framework.
//!
//! An application needs nothing of this; `leadpool-axum` and `leadpool-actix` are built on it, and
//! only adapt it, so that both do the same. It may change with each minor version of leadpool.
//!
//! - [`Problem`] says which answer an error amounts to: status, `Retry-After`, and a body without
//!   internals.
//! - [`WebPool`] is what a pool does for a request; leadpool's pools implement it, for each driver.
//! - [`Transaction`] holds a transaction open for as long as a request is handled, and
//!   [`Transaction::around`] ends it by the answer.
//! - [`Deadline`] is how much time a request has, and [`TimeLeft`] what is left of it.
//! - [`ReadYourWrites`] carries consistency tokens to clients and back, and [`Seen`] is what one
//!   request must see.
//! - [`Dashboard`] is a page that shows the cluster, and what keeps it up to date.
//! - [`Health`] answers who asks whether the service lives, and whether it is ready.
//! - [`PatroniCallback`] hears Patroni's callbacks.
//!
//! A [`Problem`] and an [`Answer`] are plain values: a status, headers, a body.

mod answer;
mod callback;
mod dashboard;
mod deadline;
mod ending;
mod health;
mod hold;
mod pool;
mod problem;
mod read_your_writes;
mod seen;
mod transaction;

pub use answer::Answer;
pub use callback::{CallbackError, LONGEST_CALL, PatroniCallback};
pub use dashboard::{Dashboard, Watcher};
pub use deadline::{Deadline, TimeLeft};
pub use ending::end_streams;
pub use health::{Health, Readiness};
pub use hold::{Awaited, Hold};
pub use pool::WebPool;
pub use problem::{Problem, Reader, Told};
pub use read_your_writes::{InvalidCarrier, ReadYourWrites};
pub use seen::Seen;
pub use transaction::{Ended, Transaction};
