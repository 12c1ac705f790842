//! The hosts that a monitor of pg_auto_failover manages.

use std::{
    fmt,
    sync::{Mutex, PoisonError},
};

use tokio::time::timeout;
use tokio_postgres::{SimpleQueryMessage, SimpleQueryRow};

use super::{APPLICATION_NAME, Discovering, Discovery, DiscoveryError, Found, FoundHost, View};
use crate::{
    config::{Config, ConfigError},
    failover::Failure,
    session::Session,
    topology::HostAddr,
};

/// The hosts that a monitor of [pg_auto_failover] manages, without those in maintenance or about
/// to leave.
///
/// It asks the monitor with `pgautofailover.current_state`, over a connection of its own. The
/// monitor's user `autoctl_node` may do that.
///
/// ```no_run
/// # async fn f() -> Result<(), leadpool::Error> {
/// use leadpool::{Pool, discovery::AutoFailover};
///
/// let monitor = AutoFailover::new("postgres://autoctl_node@monitor.example.com/pg_auto_failover")?;
/// let pool = Pool::builder("postgres://app@/shop")
///     .configure(|config| config.allowed_hosts("*.example.com"))
///     .discovery(monitor)
///     .build()
///     .await?;
/// # Ok(())
/// # }
/// ```
///
/// [pg_auto_failover]: https://pg-auto-failover.readthedocs.io/
pub struct AutoFailover {
    monitor: Config,
    formation: String,
    group: Option<u32>,
    session: Mutex<Option<(HostAddr, Session)>>,
}

impl AutoFailover {
    /// Asks the monitor that the connection string leads to, about the formation `default`.
    ///
    /// # Errors
    ///
    /// The first mistake in the connection string; it names the key.
    pub fn new(monitor: &str) -> Result<Self, ConfigError> {
        Ok(Self {
            monitor: Config::from_url(monitor)?,
            formation: "default".to_owned(),
            group: None,
            session: Mutex::new(None),
        })
    }

    /// Asks about another formation.
    #[must_use]
    pub fn formation(mut self, formation: &str) -> Self {
        formation.clone_into(&mut self.formation);
        self
    }

    /// Asks about one group of the formation: one shard of a Citus cluster. Without it a formation
    /// of several groups is an error, since each has a primary of its own.
    #[must_use]
    pub fn group(mut self, group: u32) -> Self {
        self.group = Some(group);
        self
    }

    async fn ask(&self) -> Result<Found, DiscoveryError> {
        let sql = format!(
            "SELECT nodehost, nodeport, group_id, assigned_group_state, nodename \
               FROM pgautofailover.current_state({}) ORDER BY node_id",
            quoted(&self.formation)
        );
        let kept = self.kept().take();
        if let Some((monitor, mut session)) = kept {
            if let Ok(messages) = session.ask(|client| client.simple_query(&sql)).await {
                return self.answered(monitor, session, messages);
            }
            // It may have ended long ago: a new one tells the truth.
        }
        let mut last = None;
        let count = u32::try_from(self.monitor.hosts().len()).unwrap_or(u32::MAX);
        // So that one that is silent leaves time for the others.
        let limit = self.monitor.pool().connect_timeout / count.max(1);
        for monitor in self.monitor.hosts() {
            let failed = |failure| DiscoveryError::Service {
                service: monitor.clone(),
                failure,
            };
            let asked = async {
                let mut session =
                    Session::open(&self.monitor, monitor, APPLICATION_NAME, limit).await?;
                let messages = session.ask(|client| client.simple_query(&sql)).await?;
                Ok((session, messages))
            };
            let asked = timeout(limit, asked).await;
            match asked.unwrap_or(Err(Failure::Silent)) {
                Ok((session, messages)) => {
                    return self.answered(monitor.clone(), session, messages);
                }
                Err(failure) => last = Some(failed(failure)),
            }
        }
        Err(last.unwrap_or_else(|| DiscoveryError::setup("the monitor's URL names no host")))
    }

    fn answered(
        &self,
        monitor: HostAddr,
        session: Session,
        messages: Vec<SimpleQueryMessage>,
    ) -> Result<Found, DiscoveryError> {
        *self.kept() = Some((monitor.clone(), session));
        let rows = messages.into_iter().filter_map(|message| match message {
            SimpleQueryMessage::Row(row) => Some(row),
            _ => None,
        });
        self.read(&rows.collect::<Vec<_>>())
            .map_err(|problem| DiscoveryError::nonsense(monitor, problem))
    }

    fn read(&self, rows: &[SimpleQueryRow]) -> Result<Found, String> {
        let mut found = Found::default();
        let mut group = self.group;
        for row in rows {
            let text = |column| row.get(column).unwrap_or_default();
            let of: u32 = text(2)
                .parse()
                .map_err(|_| format!("`{}` is no group", text(2)))?;
            match group {
                None => group = Some(of),
                Some(group) if group == of => {}
                Some(_) if self.group.is_some() => continue,
                Some(_) => {
                    return Err(format!(
                        "the formation {} has several groups; say which with `group`",
                        self.formation
                    ));
                }
            }
            let port = text(1)
                .parse()
                .ok()
                .filter(|port: &u16| *port != 0)
                .ok_or_else(|| format!("`{}` is no port of {}", text(1), text(4)))?;
            if text(0).is_empty() {
                return Err(format!("{} has no host", text(4)));
            }
            let host = HostAddr::new(text(0), port);
            match text(3) {
                // What is no server of the application's, or not any more.
                "init" | "maintenance" | "wait_maintenance" | "prepare_maintenance" | "dropped" => {
                    continue;
                }
                "single" | "primary" | "wait_primary" | "join_primary" | "apply_settings" => {
                    found.primary = Some(host.clone());
                }
                _ => {}
            }
            found.hosts.push(FoundHost::new(host));
        }
        Ok(found)
    }

    fn kept(&self) -> std::sync::MutexGuard<'_, Option<(HostAddr, Session)>> {
        self.session.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A string constant, whatever `standard_conforming_strings` says.
fn quoted(text: &str) -> String {
    let text = text.replace('\\', "\\\\").replace('\'', "''");
    format!(" E'{text}'")
}

impl Discovery for AutoFailover {
    fn name(&self) -> &str {
        "pg_auto_failover"
    }

    fn discover<'a>(&'a self, _: &'a View) -> Discovering<'a> {
        Box::pin(async { Ok(self.ask().await?) })
    }
}

impl fmt::Debug for AutoFailover {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AutoFailover")
            .field("monitor", &self.monitor.hosts())
            .field("formation", &self.formation)
            .field("group", &self.group)
            .finish_non_exhaustive()
    }
}
