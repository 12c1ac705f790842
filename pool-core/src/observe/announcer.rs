//! The one place where events are told: to the metrics, to `tracing`, and to the stream.

use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::broadcast;
use tracing::Span;

use super::{
    Meters,
    metrics::{EVENTS, FAILOVERS, FENCED_CLAIMS, INVALIDATIONS, WRITER_CHANGES, WRITER_GAP},
    rows,
};
use crate::{failover::Event, topology::HostAddr};

/// Events that alerts ask for.
const ALARMING: [&str; 4] = ["fenced", "contested", "foreign_host", "task_restarted"];

/// Tells of events.
#[derive(Debug)]
pub(crate) struct Announcer {
    events: broadcast::Sender<Event>,
    meters: Meters,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// Who was the writer last, also while there is none.
    last_writer: Option<HostAddr>,
    /// Open while there is none.
    failover: Option<Span>,
}

/// An event of the table.
macro_rules! tell {
    ($row:ident, { $($fields:tt)* }, $($message:tt)+) => {
        tracing::event!(
            name: rows::$row.name,
            target: rows::$row.target,
            rows::$row.level,
            { $($fields)* },
            $($message)+
        )
    };
}

/// One that is about a host.
macro_rules! tell_of {
    ($row:ident, $pool:ident, $host:ident, { $($fields:tt)* }, $($message:tt)+) => {
        tell!(
            $row,
            {
                db.client.connection.pool.name = $pool,
                server.address = $host.name(),
                server.port = $host.port(),
                $($fields)*
            },
            $($message)+
        )
    };
}

impl Announcer {
    pub(crate) fn new(events: broadcast::Sender<Event>, meters: Meters) -> Self {
        // From 0 on: an increase can't be seen of a series that begins with 1.
        for event in ALARMING {
            drop(meters.counter(&EVENTS, &[event]));
        }
        for change in ["lost", "found", "moved"] {
            drop(meters.counter(&WRITER_CHANGES, &[change]));
        }
        drop(meters.counter(&FAILOVERS, &[]));
        Self {
            events,
            meters,
            state: Mutex::default(),
        }
    }

    pub(crate) fn meters(&self) -> &Meters {
        &self.meters
    }

    /// A handle that does not keep the stream open.
    pub(crate) fn downgrade(&self) -> broadcast::WeakSender<Event> {
        self.events.downgrade()
    }

    /// Tells of one event.
    pub(crate) fn announce(&self, event: Event) {
        self.meters.counter(&EVENTS, &[event.name()]).increment(1);
        let failover = self.advance(&event);
        {
            // What happens while a writer is missing belongs to the failover.
            let _entered = failover.as_ref().map(Span::enter);
            self.tell(&event);
        }
        drop(failover);
        // Nobody may be listening.
        let _ = self.events.send(event);
    }

    /// Counts what the event changes, and gives the span that it belongs to.
    fn advance(&self, event: &Event) -> Option<Span> {
        let mut state = self.state();
        match event {
            Event::WriterChanged {
                from,
                to,
                term,
                gap,
            } => {
                let change = match (from, to) {
                    (_, None) => "lost",
                    (None, Some(_)) => "found",
                    (Some(_), Some(_)) => "moved",
                };
                self.meters.counter(&WRITER_CHANGES, &[change]).increment(1);
                let before = match to {
                    Some(to) => state.last_writer.replace(to.clone()),
                    None => from
                        .clone()
                        .and_then(|from| state.last_writer.replace(from)),
                };
                let span = state
                    .failover
                    .take()
                    // The first writer is no failover.
                    .or_else(|| before.as_ref().map(|before| self.failover(before)));
                if let (Some(to), Some(before), Some(gap)) = (to, &before, gap) {
                    self.meters.histogram(&WRITER_GAP, &[]).record(*gap);
                    if to != before {
                        self.meters.counter(&FAILOVERS, &[]).increment(1);
                    }
                    if let Some(span) = &span {
                        span.record("leadpool.to", tracing::field::display(to));
                        span.record("leadpool.term", term.map(|term| term.get()));
                        span.record("leadpool.gap_seconds", gap.as_secs_f64());
                    }
                }
                if to.is_none() {
                    state.failover.clone_from(&span);
                }
                return span;
            }
            Event::Fenced { host, .. } => self
                .meters
                .counter(&FENCED_CLAIMS, &[&host.to_string()])
                .increment(1),
            Event::Invalidated {
                host,
                aborted,
                reason,
                ..
            } => {
                let aborted = if *aborted { "true" } else { "false" };
                let values = [&*host.to_string(), &*reason.to_string(), aborted];
                self.meters.counter(&INVALIDATIONS, &values).increment(1);
            }
            // Counted by name alone: a metric of their own would say no more.
            Event::Demoted { .. }
            | Event::Contested { .. }
            | Event::HostUp { .. }
            | Event::HostSuspect { .. }
            | Event::HostDown { .. }
            | Event::PrimaryReadOnly { .. }
            | Event::ForeignHost { .. }
            | Event::HostAdded { .. }
            | Event::HostRemoved { .. }
            | Event::TermForgotten { .. }
            | Event::Missed { .. }
            | Event::TaskRestarted { .. }
            | Event::DiscoveryFailed { .. }
            | Event::DiscoveryContradicted { .. }
            | Event::HostNotAllowed { .. }
            | Event::HostLagging { .. }
            | Event::HostCaughtUp { .. }
            | Event::Paused { .. }
            | Event::Resumed { .. } => {}
        }
        state.failover.clone()
    }

    fn failover(&self, from: &HostAddr) -> Span {
        tracing::span!(
            target: rows::FAILOVER.target,
            parent: None,
            rows::FAILOVER.level,
            rows::FAILOVER.name,
            db.system.name = "postgresql",
            db.client.connection.pool.name = self.meters.pool(),
            leadpool.from = %from,
            leadpool.to = tracing::field::Empty,
            leadpool.term = tracing::field::Empty,
            leadpool.gap_seconds = tracing::field::Empty,
        )
    }

    fn tell(&self, event: &Event) {
        let pool = self.meters.pool();
        match event {
            Event::WriterChanged {
                from,
                to,
                term,
                gap,
            } => tell!(
                WRITER_CHANGED,
                {
                    db.client.connection.pool.name = pool,
                    leadpool.from = from.as_ref().map(tracing::field::display),
                    leadpool.to = to.as_ref().map(tracing::field::display),
                    leadpool.term = term.map(|term| term.get()),
                    leadpool.gap_seconds = gap.map(|gap| gap.as_secs_f64()),
                },
                "writer changed"
            ),
            Event::Demoted { host } => tell_of!(DEMOTED, pool, host, {}, "demoted"),
            Event::Fenced {
                host,
                term,
                highest,
            } => tell_of!(
                FENCED, pool, host,
                { leadpool.term = term.get(), leadpool.highest_term = highest.get() },
                "a stale primary is fenced"
            ),
            Event::Contested { hosts } => tell!(
                CONTESTED,
                { db.client.connection.pool.name = pool, leadpool.hosts = ?hosts },
                "several hosts claim to be the primary"
            ),
            Event::HostUp { host, role } => {
                tell_of!(HOST_UP, pool, host, { leadpool.role = %role }, "host is up");
            }
            Event::HostSuspect { host, problem } => tell_of!(
                HOST_SUSPECT, pool, host, { leadpool.problem = %problem }, "host is suspect"
            ),
            Event::HostDown { host, problem } => tell_of!(
                HOST_DOWN, pool, host, { leadpool.problem = %problem }, "host is down"
            ),
            Event::PrimaryReadOnly { host } => tell_of!(
                PRIMARY_READ_ONLY,
                pool,
                host,
                {},
                "the primary accepts no writes"
            ),
            Event::Invalidated {
                host,
                generation,
                aborted,
                reason,
            } => tell_of!(
                INVALIDATED, pool, host,
                {
                    leadpool.generation = generation,
                    leadpool.aborted = aborted,
                    leadpool.reason = %reason,
                },
                "connections became unusable"
            ),
            Event::ForeignHost {
                host,
                system_identifier,
                expected,
            } => tell_of!(
                FOREIGN_HOST, pool, host,
                { leadpool.system_identifier = system_identifier, leadpool.expected = expected },
                "host of another cluster"
            ),
            Event::HostAdded { host } => tell_of!(HOST_ADDED, pool, host, {}, "host joined"),
            Event::HostRemoved { host } => tell_of!(HOST_REMOVED, pool, host, {}, "host left"),
            Event::TermForgotten { term } => tell!(
                TERM_FORGOTTEN,
                { db.client.connection.pool.name = pool, leadpool.term = term.get() },
                "the highest term is forgotten"
            ),
            // Each receiver tells its own user.
            Event::Missed { .. } => {}
            Event::TaskRestarted { task } => tell!(
                TASK_RESTARTED,
                { db.client.connection.pool.name = pool, leadpool.task = %task },
                "a background task panicked and was started again"
            ),
            Event::DiscoveryFailed { source, problem } => tell!(
                DISCOVERY_FAILED,
                {
                    db.client.connection.pool.name = pool,
                    leadpool.source = %source,
                    leadpool.problem = %problem,
                },
                "a source of hosts failed"
            ),
            Event::DiscoveryContradicted { problem } => tell!(
                DISCOVERY_CONTRADICTED,
                { db.client.connection.pool.name = pool, leadpool.problem = %problem },
                "the hosts contradict a source"
            ),
            Event::HostNotAllowed { host } => tell_of!(
                HOST_NOT_ALLOWED,
                pool,
                host,
                {},
                "a host that is not admitted"
            ),
            Event::HostLagging {
                host,
                lag,
                staleness,
            } => tell_of!(
                HOST_LAGGING, pool, host,
                {
                    leadpool.lag_bytes = lag,
                    leadpool.staleness_seconds = staleness.map(|staleness| staleness.as_secs_f64()),
                },
                "standby is behind"
            ),
            Event::HostCaughtUp { host } => {
                tell_of!(HOST_CAUGHT_UP, pool, host, {}, "standby has caught up");
            }
            Event::Paused { all } => tell!(
                PAUSED,
                { db.client.connection.pool.name = pool, leadpool.all = all },
                "checkouts wait"
            ),
            Event::Resumed { all } => tell!(
                RESUMED,
                { db.client.connection.pool.name = pool, leadpool.all = all },
                "checkouts go on"
            ),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
