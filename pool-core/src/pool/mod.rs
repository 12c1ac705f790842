//! The sub-pools: one a host, replaced when the host is invalidated, and the way of a checkout to
//! the right one.

mod checkout;
mod driver;
mod gate;
mod generation;
mod status;
mod sub_pools;
#[cfg(test)]
mod tests;

pub(crate) use driver::{Driver, GetError};
pub(crate) use generation::Generation;
pub use status::{PoolCounts, Status, SubPoolStatus};
pub(crate) use sub_pools::{SubPool, SubPools};
