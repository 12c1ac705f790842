//! The pool on real servers.

mod cancellation;
mod checkout;
mod drop_in;
mod failover;
mod fencing;
mod lifecycle;
mod support;
mod transactions;
