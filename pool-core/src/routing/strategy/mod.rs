//! Which of several usable readers serves a checkout.

mod round_robin;

pub(crate) use round_robin::RoundRobin;
