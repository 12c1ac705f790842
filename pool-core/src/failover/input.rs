//! What the machine is told.

use std::{fmt, time::Duration};

use crate::topology::{Found, HostAddr, Lsn, Term};

/// One thing that happened, told to [`Machine::handle`](super::Machine::handle).
///
/// ```
/// use leadpool::failover::{Failure, Input};
/// use leadpool::HostAddr;
///
/// let input = Input::Failed { host: HostAddr::new("db1", 5432), failure: Failure::Refused };
/// assert!(matches!(input, Input::Failed { .. }));
/// ```
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum Input {
    /// A discovery says these are the hosts. A hint: it changes whom the monitor asks, never who
    /// is primary.
    Discovered(Found),
    /// A host answered a probe.
    Answered {
        /// Who answered.
        host: HostAddr,
        /// What it said of itself.
        answer: Answer,
    },
    /// A probe of a host failed.
    Failed {
        /// Who was asked.
        host: HostAddr,
        /// How it failed.
        failure: Failure,
    },
    /// A connection of the application saw something that may matter.
    Reported {
        /// The host of the connection.
        host: HostAddr,
        /// The generation that the connection was opened under.
        generation: u64,
        /// What it saw.
        report: Report,
    },
    /// What the application's own connections show, told at each
    /// [`watchdog_interval`](crate::config::MonitorSettings::watchdog_interval) while there are
    /// any in use.
    Looked {
        /// The hosts that connections are checked out of.
        in_use: Vec<HostAddr>,
        /// The hosts of which something has come since the last look, other than to a probe.
        heard: Vec<HostAddr>,
    },
    /// The monitor itself did not get to run for this long, so whoever was silent meanwhile is not
    /// to be blamed.
    Stalled(Duration),
    /// Whether the application has been writing lately.
    Writing(bool),
    /// An operator says that the highest term was a mistake.
    ForgetTerm,
    /// Time has passed.
    Tick,
}

/// What a host says of itself in answer to a probe.
///
/// ```
/// use leadpool::failover::Answer;
/// use leadpool::topology::Term;
///
/// let answer = Answer::primary(Term::from_timeline(3));
/// assert!(!answer.recovering && !answer.read_only);
/// ```
#[derive(Clone, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct Answer {
    /// `pg_is_in_recovery()`.
    pub recovering: bool,
    /// `transaction_read_only` of a plain transaction.
    pub read_only: bool,
    /// The term of a primary; a standby has none that an ordinary user can trust.
    pub term: Option<Term>,
    /// Where a primary inserts WAL, or up to where a standby has replayed it.
    pub position: Option<Lsn>,
    /// `pg_current_wal_flush_lsn()` of a primary.
    pub flushed: Option<Lsn>,
    /// `pg_last_wal_replay_lsn()` of a primary: where its last recovery ended.
    pub recovered: Option<Lsn>,
    /// `pg_last_wal_receive_lsn()`: set on a standby that has streamed since its start, and on a
    /// primary that was promoted from one and has not crashed since.
    pub received: Option<Lsn>,
    /// What a provider shows of a primary where timelines say nothing: a number that grows with
    /// time, in microseconds. The number at which a host is first seen as the primary becomes the
    /// term of its claim, and stays it until the host itself says that it is none, or until it has
    /// restarted and the standbys say that it is the primary again.
    pub stamp: Option<u64>,
    /// What such a provider calls the host that answers.
    pub instance: Option<String>,
    /// Whom its listing names as the primary, in the provider's words.
    pub writer: Option<String>,
    /// How old the data of a standby is, where the provider tells.
    pub staleness: Option<Duration>,
    /// `system_identifier` of `pg_control_system()`; `None` where the provider revoked it.
    pub system_identifier: Option<u64>,
    /// `pg_postmaster_start_time()` in microseconds since 1970: with the system identifier it
    /// tells whether two addresses lead to the same server, and whether it is still the same one
    /// that answers.
    pub started_at: Option<i64>,
    /// How long the answer took.
    pub round_trip: Option<Duration>,
}

impl Answer {
    /// The answer of a writable primary.
    #[must_use]
    pub fn primary(term: Term) -> Self {
        Self {
            term: Some(term),
            ..Self::default()
        }
    }

    /// The answer of a standby.
    #[must_use]
    pub fn standby() -> Self {
        Self {
            recovering: true,
            read_only: true,
            ..Self::default()
        }
    }
}

/// How a probe failed.
///
/// ```
/// use leadpool::failover::Failure;
///
/// assert_eq!(Failure::Refused.to_string(), "connection refused");
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Failure {
    /// Nothing listens, or the server says that it is starting, stopping or recovering: no new
    /// session can be had there now.
    Refused,
    /// The server told why it takes no session now (57P03).
    NotAccepting(String),
    /// No answer yet; the probe goes on.
    Silent,
    /// Something failed on the way (name resolution, route, reset): proves nothing.
    Unreachable(String),
    /// The server is alive, but would not let the monitor in (authentication, too many
    /// connections): proves nothing about its role.
    Denied(String),
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Refused => f.write_str("connection refused"),
            Self::Silent => f.write_str("no answer in time"),
            Self::NotAccepting(text) | Self::Unreachable(text) | Self::Denied(text) => {
                f.write_str(text)
            }
        }
    }
}

/// What a connection of the application saw. Reports never change a role: they make the monitor
/// look at once, and only the host's own answer to that look counts.
///
/// ```
/// use leadpool::failover::Report;
///
/// assert_ne!(Report::ConnectionLost, Report::RoleChanged);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Report {
    /// A connection ended although nobody closed it, or the server said it is going (57P0x).
    ConnectionLost,
    /// A connection could not be opened.
    ConnectFailed,
    /// `in_hot_standby` or `default_transaction_read_only` was reported with an unexpected value.
    RoleChanged,
    /// A write was refused as read-only (25006).
    WriteRefused,
    /// A statement or a checkout has been waiting for long.
    Slow,
}
