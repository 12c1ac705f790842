//! Standbys found by asking the primary.

use std::{
    collections::HashMap,
    fmt,
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use super::{Discovering, Discovery, DiscoveryError, Found, FoundHost, Reply, View};
use crate::topology::HostAddr;

/// Who receives the log from this host, and from whom it receives it. Ordinary users see the rows,
/// but no addresses in them
/// ([PostgreSQL documentation, section 28.2.4](https://www.postgresql.org/docs/current/monitoring-stats.html#MONITORING-PG-STAT-REPLICATION-VIEW)).
const SQL: &str = "\
SELECT 'standby', pg_catalog.host(client_addr), client_hostname, application_name, NULL \
  FROM pg_catalog.pg_stat_replication \
 WHERE state IS NULL OR state OPERATOR(pg_catalog.<>) 'backup' \
 UNION ALL \
SELECT 'primary', sender_host, NULL, NULL, sender_port::pg_catalog.text \
  FROM pg_catalog.pg_stat_wal_receiver \
 WHERE status IS NULL OR status OPERATOR(pg_catalog.=) 'streaming'";

/// For how long a standby that no longer receives the log is still named.
const FORGET_AFTER: Duration = Duration::from_secs(300);

/// Finds standbys by asking the primary who receives its log (`pg_stat_replication`), and while
/// there is none, the primary by asking a standby from whom it receives it
/// (`pg_stat_wal_receiver`). The hosts of the connection string stay.
///
/// PostgreSQL tells the address that a standby connects from, not the port that it listens on:
/// that is taken to be the primary's, unless [`port`](Self::port) or [`host_of`](Self::host_of)
/// says otherwise. The pool's user needs `GRANT pg_monitor` to see addresses. Standbys of standbys
/// are not seen.
///
/// ```no_run
/// # async fn f() -> Result<(), leadpool::Error> {
/// use leadpool::{Pool, discovery::Replicas};
///
/// let pool = Pool::builder("postgres://app@10.0.0.1/shop")
///     .configure(|config| config.allowed_hosts("10.0.0.0/24"))
///     .discovery(Replicas::new())
///     .build()
///     .await?;
/// # Ok(())
/// # }
/// ```
pub struct Replicas {
    port: Option<u16>,
    host_of: Option<Box<HostOf>>,
    forget_after: Duration,
    /// When each standby was last named.
    seen: Mutex<HashMap<HostAddr, Instant>>,
}

type HostOf = dyn Fn(&Replica) -> Option<HostAddr> + Send + Sync;

/// What the primary knows of a standby.
///
/// ```
/// use leadpool::{HostAddr, discovery::{Replica, Replicas}};
///
/// // Where each standby's `application_name` is its host name.
/// let replicas = Replicas::new().host_of(|replica: &Replica| {
///     Some(HostAddr::new(format!("{}.db.example.com", replica.application_name), 5432))
/// });
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Replica {
    /// What its `primary_conninfo` or `cluster_name` says: often its name.
    pub application_name: String,
    /// The address that it connects from; none over a Unix socket.
    pub address: Option<String>,
    /// The name of that address, if the server looks names up (`log_hostname`).
    pub host_name: Option<String>,
}

impl Replicas {
    /// Standbys listen on the primary's port.
    #[must_use]
    pub fn new() -> Self {
        Self {
            port: None,
            host_of: None,
            forget_after: FORGET_AFTER,
            seen: Mutex::default(),
        }
    }

    /// The port that all standbys listen on.
    #[must_use]
    pub fn port(mut self, port: u16) -> Self {
        self.port = Some(port);
        self
    }

    /// Says where a standby listens, by what the primary knows of it. `None`: it gets no
    /// connections.
    #[must_use]
    pub fn host_of(
        mut self,
        host_of: impl Fn(&Replica) -> Option<HostAddr> + Send + Sync + 'static,
    ) -> Self {
        self.host_of = Some(Box::new(host_of));
        self
    }

    /// For how long a standby that no longer receives the log stays in the cluster. During a
    /// failover none does for a while. Default 5 minutes.
    #[must_use]
    pub fn forget_after(mut self, time: Duration) -> Self {
        self.forget_after = time;
        self
    }

    fn read(&self, view: &View, reply: &Reply) -> Result<Found, DiscoveryError> {
        let port = self.port.unwrap_or_else(|| reply.host.port());
        let mut primary = None;
        // Who answers is there, also if it is a former standby that nobody else names.
        let mut named = vec![reply.host.clone()];
        for row in &reply.rows {
            let text = |column| row.get(column).map(str::to_owned);
            if row.get(0) == Some("primary") {
                // Nothing while it is not known: the receiver has just begun.
                let upstream = row.get(1).zip(row.get(4));
                let upstream = upstream.and_then(|(host, port)| Some((host, port.parse().ok()?)));
                primary = upstream.map(|(host, port)| HostAddr::new(host, port));
                named.extend(primary.clone());
                continue;
            }
            let replica = Replica {
                application_name: text(3).unwrap_or_default(),
                address: text(1),
                host_name: text(2),
            };
            if row.get(3).is_none() {
                return Err(DiscoveryError::setup(format!(
                    "{} does not show its standbys to this user: GRANT pg_monitor to it",
                    reply.host
                )));
            }
            match &self.host_of {
                Some(host_of) => named.extend(host_of(&replica)),
                None => {
                    let name = replica.host_name.or(replica.address);
                    named.extend(name.map(|name| HostAddr::new(name, port)));
                }
            }
        }
        let now = Instant::now();
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        seen.extend(named.iter().cloned().map(|host| (host, now)));
        seen.retain(|_, at| now.duration_since(*at) <= self.forget_after);
        let mut known: Vec<HostAddr> = seen.keys().cloned().collect();
        known.sort();
        let mut found = Found::default();
        for host in view.seeds().iter().chain(&named).chain(&known) {
            if !found.names(host) {
                found.hosts.push(FoundHost::new(host.clone()));
            }
        }
        found.primary = primary;
        Ok(found)
    }
}

impl Discovery for Replicas {
    fn name(&self) -> &str {
        "replicas"
    }

    fn discover<'a>(&'a self, view: &'a View) -> Discovering<'a> {
        Box::pin(async {
            let reply = view.ask_any(SQL).await.map_err(DiscoveryError::from)?;
            Ok(self.read(view, &reply)?)
        })
    }
}

impl Default for Replicas {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for Replicas {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Replicas")
            .field("port", &self.port)
            .field("forget_after", &self.forget_after)
            .finish_non_exhaustive()
    }
}
