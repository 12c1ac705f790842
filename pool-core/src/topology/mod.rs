//! What is known of a cluster: hosts, roles, terms, and the immutable snapshot of them all.
//!
//! Everything here is plain data without a clock, a socket or a task.

mod endpoint;
mod found;
mod host;
mod instance_pattern;
mod role;
mod snapshot;
mod target;
mod term;

pub use endpoint::{AwsEndpoint, EndpointKind};
pub use found::{Found, FoundHost};
pub use host::HostAddr;
pub use instance_pattern::{InstancePattern, InvalidInstanceId, InvalidInstancePattern};
pub use role::{Health, Phase, Role};
pub use snapshot::{HostView, Topology};
pub use target::{FailoverMode, Target, UnknownTarget};
pub use term::{InvalidLsn, Lsn, Term};
