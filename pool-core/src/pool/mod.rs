//! The sub-pools: one a host, replaced when the host is invalidated, and the way of a checkout to
//! the right one.

mod checkout;
mod clock;
mod drain;
mod driver;
mod gate;
mod generation;
mod keeper;
mod life;
mod pause;
mod routes;
mod status;
mod sub_pools;
#[cfg(test)]
mod tests;

pub(crate) use checkout::Purpose;
pub use drain::Drained;
pub(crate) use driver::{Driver, GetError};
pub(crate) use generation::Generation;
pub(crate) use life::Stamp;
pub use pause::PauseGuard;
pub(crate) use pause::pause;
pub use status::{PoolCounts, Status, SubPoolStatus};
pub(crate) use sub_pools::{SubPool, SubPools};
