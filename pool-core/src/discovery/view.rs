//! What a discovery gets to see, and how it asks the hosts.

use std::{
    fmt,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use futures_util::{StreamExt as _, stream::FuturesUnordered};
use tokio::time::sleep;
use tokio_postgres::{SimpleQueryMessage, SimpleQueryRow};

use super::APPLICATION_NAME;
use crate::{
    config::{Config, InstancePattern},
    failover::Failure,
    session::Session,
    topology::{HostAddr, Topology},
};

/// How long one host may be silent before the next one is asked beside it.
const HEDGE: Duration = Duration::from_millis(250);
/// How many open connections are kept for the next time.
const KEPT: usize = 2;

/// What is known of the cluster while a discovery asks for its hosts.
///
/// ```
/// use leadpool::discovery::{Found, FoundHost, View};
/// use leadpool::HostAddr;
///
/// /// Reads the hosts from a table of the cluster itself.
/// async fn from_table(view: &View) -> Result<Found, Box<dyn std::error::Error + Send + Sync>> {
///     let reply = view.ask_any("SELECT name, port FROM public.hosts").await?;
///     let host = |row: &leadpool::tokio_postgres::SimpleQueryRow| {
///         let port = row.get(1)?.parse().ok()?;
///         Some(FoundHost::new(HostAddr::new(row.get(0)?, port)))
///     };
///     Ok(Found::new(reply.rows.iter().filter_map(host)))
/// }
/// ```
#[derive(Debug)]
pub struct View {
    config: Arc<Config>,
    topology: Arc<Topology>,
    sessions: Arc<Sessions>,
}

/// What a host answered to a question.
///
/// ```no_run
/// # async fn f(view: &leadpool::discovery::View) -> Result<(), leadpool::discovery::AskError> {
/// let reply = view.ask_any("SELECT pg_catalog.version()").await?;
/// println!("{} says {:?}", reply.host, reply.rows[0].get(0));
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
#[non_exhaustive]
pub struct Reply {
    /// Who answered.
    pub host: HostAddr,
    /// The rows; all values as text.
    pub rows: Vec<SimpleQueryRow>,
}

/// No host answered a question of a discovery.
///
/// ```no_run
/// # async fn f(view: &leadpool::discovery::View) {
/// if let Err(error) = view.ask_any("SELECT 1").await {
///     eprintln!("{error}"); // db1:5432: connection refused; db2:5432: ...
/// }
/// # }
/// ```
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct AskError {
    /// Who was asked, and how it failed.
    pub seen: Vec<(HostAddr, Failure)>,
}

impl fmt::Display for AskError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.seen.is_empty() {
            return f.write_str("there is nobody to ask: name a host in the connection string");
        }
        for (at, (host, failure)) in self.seen.iter().enumerate() {
            let separator = if at == 0 { "" } else { "; " };
            write!(f, "{separator}{host}: {failure}")?;
        }
        Ok(())
    }
}

impl std::error::Error for AskError {}

/// Connections that a discovery has asked over, kept for the next time.
#[derive(Default)]
pub(crate) struct Sessions {
    open: Mutex<Vec<(HostAddr, Session)>>,
}

impl View {
    pub(crate) fn new(
        config: Arc<Config>,
        topology: Arc<Topology>,
        sessions: Arc<Sessions>,
    ) -> Self {
        Self {
            config,
            topology,
            sessions,
        }
    }

    /// The hosts of the configuration: where a discovery begins.
    #[must_use]
    pub fn seeds(&self) -> &[HostAddr] {
        self.config.hosts()
    }

    /// The newest picture.
    #[must_use]
    pub fn topology(&self) -> &Topology {
        &self.topology
    }

    pub(super) fn instance_pattern(&self) -> Option<&InstancePattern> {
        self.config.host_settings().instance_pattern.as_ref()
    }

    pub(super) fn is_discovery_off(&self) -> bool {
        self.config.host_settings().discovery_off
    }

    pub(super) fn admits_others(&self) -> bool {
        !self.config.host_settings().allowed_hosts.is_empty()
    }

    /// Sends statements to one host of the cluster, over a connection that belongs to leadpool:
    /// no checkout waits for it. Name everything with its schema; the answer is text.
    ///
    /// The host is one of [`topology`](Self::topology) or of [`seeds`](Self::seeds): others get no
    /// credentials.
    ///
    /// # Errors
    ///
    /// [`AskError`] says how it failed.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future closes the connection that it was asked over.
    pub async fn ask(&self, host: &HostAddr, sql: &str) -> Result<Reply, AskError> {
        let failed = |failure| AskError {
            seen: vec![(host.clone(), failure)],
        };
        if !self.seeds().contains(host) && self.topology.host(host).is_none() {
            let text = "it is no host of this cluster, and gets no credentials".to_owned();
            return Err(failed(Failure::Denied(text)));
        }
        if let Some(mut kept) = self.sessions.take(host) {
            if let Ok(rows) = ask_over(&mut kept, sql).await {
                self.sessions.keep(host, kept);
                return Ok(Reply {
                    host: host.clone(),
                    rows,
                });
            }
            // It may have ended long ago: a new one tells the truth.
        }
        let limit = self.config.pool().connect_timeout;
        let mut session = Session::open(&self.config, host, APPLICATION_NAME, limit)
            .await
            .map_err(failed)?;
        let rows = ask_over(&mut session, sql).await.map_err(failed)?;
        self.sessions.keep(host, session);
        Ok(Reply {
            host: host.clone(),
            rows,
        })
    }

    /// Sends statements to the host that most likely answers best: the writer, then standbys, then
    /// the hosts of the configuration. The next one is asked when one fails, or is silent for a
    /// quarter of a second; the first answer counts.
    ///
    /// # Errors
    ///
    /// [`AskError`] says how it failed on each host.
    ///
    /// # Cancel safety
    ///
    /// As [`ask`](Self::ask).
    pub async fn ask_any(&self, sql: &str) -> Result<Reply, AskError> {
        let mut left = self.by_promise().into_iter();
        let mut asked = FuturesUnordered::new();
        let mut seen = Vec::new();
        let mut next = left.next();
        while next.is_some() || !asked.is_empty() {
            if let Some(host) = next.take() {
                asked.push(async move { self.ask(&host, sql).await });
            }
            tokio::select! {
                biased;
                Some(answer) = asked.next() => match answer {
                    Ok(reply) => return Ok(reply),
                    Err(error) => {
                        seen.extend(error.seen);
                        next = left.next();
                    }
                },
                () = sleep(HEDGE), if left.len() > 0 => next = left.next(),
            }
        }
        Err(AskError { seen })
    }

    fn by_promise(&self) -> Vec<HostAddr> {
        let writer = self.topology.writer.iter();
        let readers = self.topology.hosts().iter();
        let readers = readers
            .filter(|host| host.is_reader())
            .map(|host| &host.addr);
        let mut hosts: Vec<HostAddr> = Vec::new();
        for host in writer.chain(readers).chain(self.seeds()) {
            if !hosts.contains(host) {
                hosts.push(host.clone());
            }
        }
        hosts
    }
}

async fn ask_over(session: &mut Session, sql: &str) -> Result<Vec<SimpleQueryRow>, Failure> {
    let messages = session.ask(|client| client.simple_query(sql)).await?;
    let rows = messages.into_iter().filter_map(|message| match message {
        SimpleQueryMessage::Row(row) => Some(row),
        _ => None,
    });
    Ok(rows.collect())
}

impl Sessions {
    fn take(&self, host: &HostAddr) -> Option<Session> {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        let at = open.iter().position(|(kept, _)| kept == host)?;
        Some(open.swap_remove(at).1)
    }

    fn keep(&self, host: &HostAddr, session: Session) {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        if open.len() >= KEPT {
            open.remove(0);
        }
        open.push((host.clone(), session));
    }
}

impl fmt::Debug for Sessions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sessions").finish_non_exhaustive()
    }
}
