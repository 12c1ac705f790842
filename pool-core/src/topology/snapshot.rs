//! The immutable picture of a cluster at one moment.

use std::{sync::Arc, time::Duration};

use serde::{Serialize, Serializer};

use super::{Health, HostAddr, Lsn, Phase, Role, Term};

/// An immutable picture of the cluster: what was known of every host at one moment.
///
/// The monitor is the only one that makes them; everyone else reads the newest through
/// [`Cluster::topology`](crate::Cluster::topology), so no reader ever sees two primaries while
/// roles are being changed one by one.
///
/// It can be serialized; [`Status`](crate::Status) says how it looks.
///
/// ```no_run
/// # async fn f(pool: leadpool::Pool) {
/// let topology = pool.cluster().topology();
/// for host in topology.hosts() {
///     println!("{} {} {}", host.addr, host.role, host.health);
/// }
/// # }
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Topology {
    /// Grows with every change that matters to a checkout: writer, roles, health, generations.
    pub epoch: u64,
    /// The state of the cluster as a whole.
    pub phase: Phase,
    /// The host that writers are handed out on.
    pub writer: Option<HostAddr>,
    /// The highest term that a primary of this cluster has shown.
    pub term: Option<Term>,
    /// The system identifier (`pg_control_system()`) that all hosts must share, once known.
    #[serde(serialize_with = "as_text")]
    pub system_identifier: Option<u64>,
    /// The hosts in the order of the configuration, then of discovery.
    pub(crate) hosts: Vec<HostView>,
}

impl Topology {
    /// The hosts, in the order in which the configuration (then discovery) named them.
    #[must_use]
    pub fn hosts(&self) -> &[HostView] {
        &self.hosts
    }

    /// The host with that address, if it is part of the cluster.
    #[must_use]
    pub fn host(&self, addr: &HostAddr) -> Option<&HostView> {
        self.hosts.iter().find(|host| host.addr == *addr)
    }
}

/// 64 bits are more than many readers of JSON keep of a number.
fn as_text<S: Serializer>(number: &Option<u64>, serializer: S) -> Result<S::Ok, S::Error> {
    number
        .map(|number| number.to_string())
        .serialize(serializer)
}

fn by_reference<S: Serializer>(text: &Option<Arc<str>>, serializer: S) -> Result<S::Ok, S::Error> {
    text.as_deref().serialize(serializer)
}

fn in_seconds<S: Serializer>(time: &Option<Duration>, serializer: S) -> Result<S::Ok, S::Error> {
    time.map(|time| time.as_secs_f64()).serialize(serializer)
}

/// What is known of one host.
///
/// ```no_run
/// # fn f(topology: &leadpool::topology::Topology) {
/// let usable = topology.hosts().iter().filter(|host| host.is_reader()).count();
/// # }
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct HostView {
    /// Which host.
    #[serde(rename = "host")]
    pub addr: HostAddr,
    /// What it is, by its own last answer.
    pub role: Role,
    /// Whether it answers.
    pub health: Health,
    /// Grows with every demotion or loss; connections of an older generation are unusable.
    pub generation: u64,
    /// Connections of this generation and older ones are aborted, also when checked out.
    pub aborted: u64,
    /// It is a primary, but accepts no writes (`transaction_read_only` is on).
    pub read_only: bool,
    /// It claims to be primary with a term lower than one already seen.
    pub fenced: bool,
    /// It belongs to another cluster and gets no connection at all: its system identifier.
    #[serde(serialize_with = "as_text")]
    pub foreign: Option<u64>,
    /// The term it last showed as a primary.
    pub term: Option<Term>,
    /// Where a primary inserts WAL, or up to where a standby has replayed it.
    pub position: Option<Lsn>,
    /// How many bytes of WAL a standby's replay was behind at its last answer: behind what it had
    /// received, or what the primary had shown by then, whichever is more. An estimate from below,
    /// by what was written since the primary's last answer. `None` where positions say nothing
    /// (Aurora).
    #[serde(rename = "lag_bytes")]
    pub lag: Option<u64>,
    /// How old the data of a standby was at its last answer: since when the primary had something
    /// that the standby had not replayed. From below again: by at most one interval between probes.
    #[serde(rename = "staleness_seconds", serialize_with = "in_seconds")]
    pub staleness: Option<Duration>,
    /// It is a standby that is behind the configured limits, and gets no reads until it has caught
    /// up to half of them.
    pub lagging: bool,
    /// The availability zone that it is in, by configuration or discovery.
    #[serde(serialize_with = "by_reference")]
    pub zone: Option<Arc<str>>,
    /// Its share of the reads, by configuration or discovery, for strategies that look at it.
    /// 1 if nobody says otherwise; a standby of weight 0 gets no reads at all.
    pub weight: u32,
    /// When the server was started, in microseconds since 1970: `pg_postmaster_start_time()`.
    #[serde(rename = "started_at_microseconds")]
    pub started_at: Option<i64>,
    /// How long its last answered probe took.
    #[serde(rename = "round_trip_seconds", serialize_with = "in_seconds")]
    pub round_trip: Option<Duration>,
    /// The same, smoothed over some probes.
    #[serde(rename = "latency_seconds", serialize_with = "in_seconds")]
    pub latency: Option<Duration>,
    /// When it last answered, as time since the monitor started.
    #[serde(rename = "last_answer_seconds", serialize_with = "in_seconds")]
    pub last_answer: Option<Duration>,
    /// What went wrong in the last probe, if it failed.
    pub problem: Option<String>,
}

impl HostView {
    /// A host of which nothing is known but its address.
    pub(crate) fn new(addr: HostAddr) -> Self {
        Self {
            addr,
            role: Role::Unknown,
            health: Health::Unknown,
            generation: 1,
            aborted: 0,
            read_only: false,
            fenced: false,
            foreign: None,
            term: None,
            position: None,
            lag: None,
            staleness: None,
            lagging: false,
            zone: None,
            weight: 1,
            started_at: None,
            round_trip: None,
            latency: None,
            last_answer: None,
            problem: None,
        }
    }

    /// Whether it may serve a checkout that asks for a standby.
    #[must_use]
    pub fn is_reader(&self) -> bool {
        self.role == Role::Standby
            && self.health == Health::Up
            && self.foreign.is_none()
            && !self.lagging
            && self.weight > 0
    }

    /// One line that says what was seen on the host, for errors.
    #[must_use]
    pub fn describe(&self) -> String {
        let mut text = format!("{}: ", self.addr);
        match (self.foreign, self.role) {
            (Some(id), _) => {
                text.push_str(&format!(
                    "belongs to another cluster (system identifier {id})"
                ));
            }
            (None, Role::Unknown) => text.push_str("no answer yet"),
            (None, Role::Primary) if self.fenced => text.push_str("stale primary, fenced"),
            (None, Role::Primary) if self.read_only => text.push_str("primary, but read-only"),
            (None, Role::Standby) if self.lagging => text.push_str("standby, too far behind"),
            (None, Role::Standby) if self.weight == 0 => {
                text.push_str("standby, of weight 0 and so without reads");
            }
            (None, role) => text.push_str(&role.to_string()),
        }
        if self.health == Health::Suspect || self.health == Health::Down {
            text.push_str(&format!(", {}", self.health));
        }
        if let Some(problem) = &self.problem {
            text.push_str(&format!(" ({problem})"));
        }
        text
    }
}
