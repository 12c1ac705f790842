//! What is done to the primary.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use clap::ValueEnum;
use leadpool_testkit::Cluster;
use serde::Serialize;

use super::observer;
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
}

/// What an observer saw, who has nothing to do with any pool.
pub(super) struct Observed {
    pub(super) old_primary: usize,
    pub(super) began: Instant,
    pub(super) accepted_at: Instant,
}

/// Does it, has another host promoted, and returns when that has accepted a write.
pub(super) async fn apply(
    fault: Fault,
    servers: &Arc<Cluster>,
    manager: Duration,
) -> Result<Observed> {
    let old = servers.primary();
    let observer = observer::start(servers, old).await?;
    let began = Instant::now();
    match fault {
        Fault::Kill => {
            servers.kill(old).await?;
            tokio::time::sleep(manager).await;
            servers.failover().await?;
        }
        Fault::Switchover => {
            let next = (0..servers.hosts()).find(|host| *host != old);
            servers
                .switchover(next.ok_or("there is no standby")?)
                .await?;
        }
        Fault::Freeze => {
            servers.freeze(old).await?;
            tokio::time::sleep(manager).await;
            servers.failover().await?;
        }
    }
    Ok(Observed {
        old_primary: old,
        began,
        accepted_at: observer.accepted().await?,
    })
}

/// What comes later of itself.
pub(super) async fn aftermath(
    fault: Fault,
    servers: &Cluster,
    old: usize,
    hold: Duration,
) -> Result<()> {
    if fault == Fault::Freeze {
        servers.thaw(old).await?;
        tokio::time::sleep(hold).await;
    }
    Ok(())
}
