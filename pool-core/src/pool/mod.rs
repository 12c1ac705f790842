//! The sub-pools: one a host, replaced when the host is invalidated, and the way of a checkout to
//! the right one.

mod ask;
mod checkout;
mod clock;
mod consistent;
mod drain;
mod driver;
mod follower;
mod gate;
mod generation;
mod idle;
mod keeper;
mod life;
mod pause;
mod queue;
mod routes;
mod status;
mod sub_pools;
#[cfg(test)]
mod tests;
mod wait;

pub use ask::Purpose;
pub use clock::pause_after;
pub use drain::Drained;
pub use driver::{Driver, GetError, Missed};
pub use generation::Generation;
pub use life::Stamp;
pub use pause::PauseGuard;
pub use status::{PoolCounts, Status, SubPoolStatus};
pub(crate) use sub_pools::SubPool;
pub use sub_pools::SubPools;
