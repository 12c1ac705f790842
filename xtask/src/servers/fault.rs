//! What is done to the primary.

use std::{sync::Arc, time::Instant};

use clap::ValueEnum;
use serde::Serialize;

use super::{Stack, observer};
use crate::Result;

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Fault {
    /// SIGKILL for every process of the primary.
    Kill,
    /// The primary is stopped in good order and its role handed over.
    Switchover,
    /// SIGSTOP for every process of the primary; it wakes up later and does not know.
    Freeze,
    /// SIGKILL for the primary's failover manager alone: the primary goes on, and is replaced.
    Manager,
}

impl Fault {
    /// Its name on the command line.
    pub(crate) fn name(self) -> String {
        let value = self.to_possible_value();
        value.map_or_else(String::new, |value| value.get_name().to_owned())
    }
}

/// What an observer saw, who has nothing to do with any pool.
pub(crate) struct Observed {
    pub(crate) old_primary: usize,
    pub(crate) new_primary: usize,
    pub(crate) began: Instant,
    pub(crate) accepted_at: Instant,
}

/// Does it, and returns when another host has accepted a write.
pub(crate) async fn apply(fault: Fault, servers: &Arc<Stack>) -> Result<Observed> {
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
