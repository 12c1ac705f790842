//! An observer outside of any pool: when does the new primary accept its first write?

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use tokio::{task::JoinSet, time::MissedTickBehavior};

use super::Stack;
use crate::Result;

const EVERY: Duration = Duration::from_millis(2);
const LIMIT: Duration = Duration::from_secs(60);

/// Where it writes; the primary must have it.
pub(super) const TABLE: &str = "CREATE TABLE observed (at timestamptz DEFAULT clock_timestamp())";

pub(super) struct Observer {
    tasks: JoinSet<Option<(usize, Instant)>>,
}

/// Begins to try a write on every host but the old primary, every 2 ms over an open connection.
pub(super) async fn start(servers: &Arc<Stack>, old: usize) -> Result<Observer> {
    let mut tasks = JoinSet::new();
    for host in (0..servers.hosts()).filter(|host| *host != old) {
        let mut client = servers.connect(host).await?;
        let servers = servers.clone();
        tasks.spawn(async move {
            let mut ticks = tokio::time::interval(EVERY);
            ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
            let begun = Instant::now();
            while begun.elapsed() < LIMIT {
                ticks.tick().await;
                match client
                    .batch_execute("INSERT INTO observed DEFAULT VALUES")
                    .await
                {
                    Ok(()) => return Some((host, Instant::now())),
                    Err(error) if error.is_closed() => match servers.connect(host).await {
                        Ok(new) => client = new,
                        Err(_) => continue,
                    },
                    Err(_) => {}
                }
            }
            None
        });
    }
    Ok(Observer { tasks })
}

impl Observer {
    /// Which host accepted the first write, and when.
    pub(super) async fn accepted(mut self) -> Result<(usize, Instant)> {
        while let Some(ended) = self.tasks.join_next().await {
            if let Some(accepted) = ended? {
                return Ok(accepted);
            }
        }
        Err("no host accepted a write within a minute".into())
    }
}
