//! The failover logic as a pure state machine.
//!
//! Nothing here knows a clock, a socket or a task: time comes in as a number, and what comes out
//! is a new [`Topology`](crate::topology::Topology) and a list of [`Action`]s. So a million
//! failovers can be simulated in seconds, every order of events can be tested, and a failing seed
//! replays. The monitor is the thin shell around it.
//!
//! Start reading at [`Machine::handle`]; who is primary is decided in `claim.rs`, who belongs to the
//! cluster in `membership.rs`, who is too far behind in `lag.rs`,
//! who has been silent for too long in `silence.rs`.

mod claim;
mod event;
mod input;
mod lag;
mod machine;
mod membership;
mod pace;
mod record;
mod reign;
mod renewal;
mod rhythm;
mod silence;

pub use event::{Event, Invalidation};
pub use input::{Answer, Failure, Input, Report};
pub use machine::{Action, Machine};
pub use pace::Pace;
pub use renewal::Renewal;
pub use rhythm::Rhythm;
