//! What is done to the primary.

use std::{sync::Arc, time::Instant};

use clap::ValueEnum;
use serde::Serialize;

use super::{observer, stack::Stack};
use crate::Result;

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Fault {
    /// SIGKILL for every process of the primary.
    Kill,
    /// The primary is stopped in good order and its role handed over.
    Switchover,
    /// SIGSTOP for every process of the primary; it wakes up later and does not know.
    Freeze,
    /// SIGKILL for the primary's failover manager alone: the primary goes on, and is replaced.
    Manager,
}

/// What an observer saw, who has nothing to do with any pool.
pub(super) struct Observed {
    pub(super) old_primary: usize,
    pub(super) new_primary: usize,
    pub(super) began: Instant,
    pub(super) accepted_at: Instant,
}

/// Does it, and returns when another host has accepted a write.
pub(super) async fn apply(fault: Fault, servers: &Arc<Stack>) -> Result<Observed> {
    let old = servers.primary().await?;
    let observer = observer::start(servers, old).await?;
    let began = Instant::now();
    servers.strike(fault, old).await?;
    let (new_primary, accepted_at) = observer.accepted().await?;
    Ok(Observed {
        old_primary: old,
        new_primary,
        began,
        accepted_at,
    })
}
