//! What the application can watch.

use std::{fmt, time::Duration};

use crate::topology::{HostAddr, Role, Term};

/// A change of the cluster that somebody may want to log, count or alert on.
///
/// ```no_run
/// # async fn f(pool: leadpool::Pool) {
/// use leadpool::Event;
///
/// let mut events = pool.cluster().events();
/// while let Some(event) = events.next().await {
///     if let Event::WriterChanged { to: Some(host), .. } = event {
///         println!("writes now go to {host}");
///     }
/// }
/// # }
/// ```
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum Event {
    /// Writes go to another host, or to none (`to` is `None`) until there is one.
    #[non_exhaustive]
    WriterChanged {
        /// The writer before, if there was one.
        from: Option<HostAddr>,
        /// The writer now, if there is one.
        to: Option<HostAddr>,
        /// The term of the new writer.
        term: Option<Term>,
        /// How long there was no writer, when this ends it.
        gap: Option<Duration>,
    },
    /// A primary has become a standby, by its own word.
    #[non_exhaustive]
    Demoted {
        /// The host.
        host: HostAddr,
    },
    /// A host claims to be primary with a term lower than one already seen: it gets no writes.
    #[non_exhaustive]
    Fenced {
        /// The host.
        host: HostAddr,
        /// The term that it claims.
        term: Term,
        /// The highest term seen.
        highest: Term,
    },
    /// Several hosts claim to be primary and the term can't order them.
    #[non_exhaustive]
    Contested {
        /// The hosts with such claims.
        hosts: Vec<HostAddr>,
    },
    /// A host answers (again).
    #[non_exhaustive]
    HostUp {
        /// The host.
        host: HostAddr,
        /// Its role.
        role: Role,
    },
    /// A probe of a host is overdue or failed without proof of a loss.
    #[non_exhaustive]
    HostSuspect {
        /// The host.
        host: HostAddr,
        /// What was seen.
        problem: String,
    },
    /// A host refuses connections or was silent beyond the limit.
    #[non_exhaustive]
    HostDown {
        /// The host.
        host: HostAddr,
        /// What was seen.
        problem: String,
    },
    /// A host is the primary but accepts no writes.
    #[non_exhaustive]
    PrimaryReadOnly {
        /// The host.
        host: HostAddr,
    },
    /// Connections to a host became unusable.
    #[non_exhaustive]
    Invalidated {
        /// The host.
        host: HostAddr,
        /// The last generation concerned.
        generation: u64,
        /// Whether connections that are checked out were aborted too; otherwise they may finish
        /// and are closed on return.
        aborted: bool,
        /// Why.
        reason: Invalidation,
    },
    /// A host belongs to another cluster and is not used.
    #[non_exhaustive]
    ForeignHost {
        /// The host.
        host: HostAddr,
        /// Its system identifier.
        system_identifier: u64,
        /// The system identifier of this cluster.
        expected: u64,
    },
    /// A host joined the cluster.
    #[non_exhaustive]
    HostAdded {
        /// The host.
        host: HostAddr,
    },
    /// A host left the cluster.
    #[non_exhaustive]
    HostRemoved {
        /// The host.
        host: HostAddr,
    },
    /// The highest term was forgotten, by an operator or by the configured time.
    #[non_exhaustive]
    TermForgotten {
        /// The term that was forgotten.
        term: Term,
    },
    /// Events were lost because this receiver was too slow.
    #[non_exhaustive]
    Missed {
        /// How many.
        count: u64,
    },
    /// A background task failed and was started again.
    #[non_exhaustive]
    TaskRestarted {
        /// Which one.
        task: String,
    },
    /// A discovery could not tell the hosts; those known stay as they are.
    #[non_exhaustive]
    DiscoveryFailed {
        /// Which source.
        source: String,
        /// What it said.
        problem: String,
    },
    /// What a discovery says is contradicted by the hosts themselves, and has no effect.
    #[non_exhaustive]
    DiscoveryContradicted {
        /// What it says, and what is the case.
        problem: String,
    },
    /// A discovery named a host to which no credentials may go, so it is not used: see
    /// [`ConfigBuilder::allowed_hosts`](crate::config::ConfigBuilder::allowed_hosts).
    #[non_exhaustive]
    HostNotAllowed {
        /// The host.
        host: HostAddr,
    },
    /// A standby is behind the configured limits, and gets no reads.
    #[non_exhaustive]
    HostLagging {
        /// The host.
        host: HostAddr,
        /// How many bytes it is behind, if known.
        lag: Option<u64>,
        /// How old its data is, if known.
        staleness: Option<Duration>,
    },
    /// A standby that was behind has caught up, and gets reads again.
    #[non_exhaustive]
    HostCaughtUp {
        /// The host.
        host: HostAddr,
    },
    /// Checkouts wait from now on: see [`Pool::pause`](crate::Pool::pause).
    #[non_exhaustive]
    Paused {
        /// Whether it concerns all pools of the cluster, or one.
        all: bool,
    },
    /// The pause is over.
    #[non_exhaustive]
    Resumed {
        /// Whether it concerned all pools of the cluster, or one.
        all: bool,
    },
}

impl Event {
    /// Its name in metrics and spans, in snake case.
    ///
    /// ```no_run
    /// # fn f(event: &leadpool::Event) {
    /// println!("leadpool.{}", event.name());
    /// # }
    /// ```
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::WriterChanged { .. } => "writer_changed",
            Self::Demoted { .. } => "demoted",
            Self::Fenced { .. } => "fenced",
            Self::Contested { .. } => "contested",
            Self::HostUp { .. } => "host_up",
            Self::HostSuspect { .. } => "host_suspect",
            Self::HostDown { .. } => "host_down",
            Self::PrimaryReadOnly { .. } => "primary_read_only",
            Self::Invalidated { .. } => "invalidated",
            Self::ForeignHost { .. } => "foreign_host",
            Self::HostAdded { .. } => "host_added",
            Self::HostRemoved { .. } => "host_removed",
            Self::TermForgotten { .. } => "term_forgotten",
            Self::Missed { .. } => "missed",
            Self::TaskRestarted { .. } => "task_restarted",
            Self::DiscoveryFailed { .. } => "discovery_failed",
            Self::DiscoveryContradicted { .. } => "discovery_contradicted",
            Self::HostNotAllowed { .. } => "host_not_allowed",
            Self::HostLagging { .. } => "host_lagging",
            Self::HostCaughtUp { .. } => "host_caught_up",
            Self::Paused { .. } => "paused",
            Self::Resumed { .. } => "resumed",
        }
    }
}

/// Why connections became unusable.
///
/// ```
/// use leadpool::failover::Invalidation;
///
/// assert_eq!(Invalidation::Fenced.to_string(), "fenced");
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Invalidation {
    /// The host said that it is a standby now.
    Demoted,
    /// A primary with a higher term was seen.
    Fenced,
    /// The host refuses connections.
    Refused,
    /// The host was silent beyond the limit.
    Silent,
    /// The host belongs to another cluster.
    Foreign,
    /// Another host became the writer after this one was lost.
    Superseded,
    /// Another server answers under the host's name, or the same one after a restart.
    Replaced,
}

impl fmt::Display for Invalidation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Demoted => "demoted",
            Self::Fenced => "fenced",
            Self::Refused => "refused",
            Self::Silent => "silent",
            Self::Foreign => "foreign",
            Self::Superseded => "superseded",
            Self::Replaced => "replaced",
        })
    }
}
