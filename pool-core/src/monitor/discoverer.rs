//! The task that asks one source for hosts.
//!
//! Each source has a task of its own, so that one that is slow or fails delays no other.

use std::{sync::Arc, time::Duration};

use tokio::{
    sync::{Notify, mpsc, watch},
    time::{Instant, sleep_until, timeout},
};

use super::shared::Shared;
use crate::{
    config::Config,
    discovery::{Discovery, Found, Sessions, View},
    failover::{Event, Pace},
    observe::Announcer,
    topology::HostAddr,
};

/// More hosts than this are no cluster: rather a list that somebody else made up.
const MAX_HOSTS: usize = 100;

/// What a source said.
#[derive(Debug)]
pub(super) struct Discovered {
    /// The source's place in the list of sources.
    pub(super) source: usize,
    /// `None` if it failed.
    pub(super) found: Option<Found>,
}

/// The task's state.
#[derive(Debug)]
pub(super) struct Discoverer {
    pub(super) number: usize,
    pub(super) source: Arc<dyn Discovery>,
    pub(super) config: Arc<Config>,
    pub(super) shared: Arc<Shared>,
    pub(super) pace: watch::Receiver<(Pace, Instant)>,
    /// Rung to have it asked at once.
    pub(super) bell: Arc<Notify>,
    pub(super) discovered: mpsc::Sender<Discovered>,
    pub(super) announcer: Arc<Announcer>,
}

impl Discoverer {
    /// Asks until the worker is gone, or once if once is enough.
    pub(super) async fn run(mut self) {
        let sessions = Arc::new(Sessions::default());
        let limit = self.config.pool().connect_timeout;
        let mut refused = Vec::new();
        let mut told = None;
        loop {
            let begun = Instant::now();
            let topology = self.shared.topology();
            let writer = topology.writer.clone();
            let view = View::new(self.config.clone(), topology, sessions.clone());
            let found = match timeout(limit, self.source.discover(&view)).await {
                Ok(Ok(found)) => self.admit(found, &mut refused),
                Ok(Err(error)) => Err(error.to_string()),
                Err(_) => Err(format!("no answer within {limit:.1?}")),
            };
            if found.is_ok() && self.shared.topology().writer != writer {
                // It may be of the time before the change: whoever is the writer now is perhaps
                // missing in it, and not because the source is wrong.
                continue;
            }
            let meters = self.announcer.meters();
            meters.discovery(self.source.name(), found.is_ok());
            let problem = found.as_ref().err().cloned();
            if problem != told {
                // Told once, not with every try.
                if let Some(problem) = problem.clone() {
                    self.announcer.announce(Event::DiscoveryFailed {
                        source: self.source.name().to_owned(),
                        problem,
                    });
                }
                told = problem;
            }
            let discovered = Discovered {
                source: self.number,
                found: found.ok(),
            };
            if self.discovered.send(discovered).await.is_err() {
                return;
            }
            if self.rest(begun).await.is_none() {
                return;
            }
        }
    }

    /// Leaves out the hosts to which no credentials may go, and says so when they are new.
    fn admit(&self, mut found: Found, refused: &mut Vec<HostAddr>) -> Result<Found, String> {
        if found.hosts.len() > MAX_HOSTS {
            return Err(format!(
                "it names {} hosts, more than the {MAX_HOSTS} that a cluster may have",
                found.hosts.len()
            ));
        }
        let named = found.hosts.len();
        let mut out = Vec::new();
        found.hosts.retain(|host| {
            let addr = &host.addr;
            let admitted = self.config.allows(addr) || self.source.vouches_for(addr);
            if !admitted {
                out.push(addr.clone());
            }
            admitted
        });
        for host in out.iter().filter(|host| !refused.contains(host)) {
            self.announcer
                .announce(Event::HostNotAllowed { host: host.clone() });
        }
        *refused = out;
        if found.hosts.is_empty() && named > 0 {
            return Err(format!(
                "none of the {named} hosts that it names may be given credentials ({}); admit them \
                 with `allowed_hosts`",
                refused
                    .iter()
                    .map(ToString::to_string)
                    .collect::<Vec<_>>()
                    .join(", ")
            ));
        }
        if found.hosts.is_empty() {
            return Err("it names no host".to_owned());
        }
        for host in &mut found.hosts {
            self.config.complete(host);
        }
        found.primary = found.primary.take().filter(|host| found.names(host));
        Ok(found)
    }

    /// Waits until it is time to ask again: by the calm interval, by the other one while a writer
    /// is missing and for a while after that, when those who were lost come back, or because the
    /// bell rings. `None`: never again.
    async fn rest(&mut self, begun: Instant) -> Option<()> {
        let settings = self.config.monitor();
        let source = self.source.refresh_interval()?;
        let calm = settings.discovery_interval.unwrap_or(source);
        let urgent = settings
            .discovery_failover_interval
            .unwrap_or_else(|| self.source.failover_interval())
            .min(calm);
        loop {
            let (pace, _) = *self.pace.borrow_and_update();
            let due = begun
                + match pace {
                    Pace::Urgent { .. } | Pace::AfterChange => urgent,
                    Pace::Writing | Pace::Idle => calm,
                };
            tokio::select! {
                biased;
                () = sleep_until(due) => return Some(()),
                () = self.bell.notified() => {
                    // Whoever rings in a loop does not make us ask in one.
                    sleep_until(begun + urgent.min(Duration::from_millis(100))).await;
                    return Some(());
                }
                changed = self.pace.changed() => changed.ok()?,
            }
        }
    }
}
