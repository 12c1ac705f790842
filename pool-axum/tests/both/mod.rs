//! The tests that leadpool-axum and leadpool-actix have to pass alike: both include this folder, and
//! bring their own `drivers` (the handlers) and `support`.

mod dashboard;
mod deadlines;
mod extractors;
mod failover;
mod health;
mod patroni;
mod read_your_writes;
mod rejections;
mod servers;
mod transactions;

pub(crate) use servers::*;
