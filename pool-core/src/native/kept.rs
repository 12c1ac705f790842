//! A session whose settings survive a failover.

use std::{fmt, sync::Arc};

use deadpool_postgres::{Client, Object};
use tokio::time::{Duration, Instant, sleep, timeout, timeout_at};

use super::Native;
use crate::{
    config::check_setting,
    error::{BoxError, ConnectError, Disposition, Error, SessionMoved, TxPhase},
    pool::{Generation, Purpose, SubPools},
    topology::{HostAddr, Target},
    tx::IsolationLevel,
};

/// The pause after a connection that was lost while the settings were sent to it.
const PAUSE: Duration = Duration::from_millis(20);

/// One logical session: it holds one connection of the pool, and the settings made through it
/// survive a failover. From [`Pool::session`](crate::Pool::session).
///
/// When its connection is lost, or its host invalidated, the next use takes another one as the
/// target asks, and sends all settings to it, in the order in which they were made, before anybody
/// gets it. What leadpool can't record is gone then: an open transaction, temporary tables,
/// cursors, advisory locks, LISTEN (for which there is a [`Listener`](crate::Listener)). So
/// [`get`](Self::get) says once that the session has moved.
///
/// Dropping it gives the connection back if nothing was set, and closes it otherwise;
/// [`end`](Self::end) undoes the settings and gives it back. So nobody inherits them.
///
/// ```no_run
/// # async fn f(pool: leadpool::Pool) -> Result<(), leadpool::Error> {
/// use leadpool::Error;
///
/// let mut session = pool.session();
/// session.set("app.tenant", "7").await?;
/// session.set_read_only(true).await?;
/// loop {
///     let client = match session.get().await {
///         Err(Error::SessionMoved(_)) => continue, // begin anew
///         client => client?,
///     };
///     let row = client.query_one("SELECT current_setting('app.tenant')", &[]).await?;
///     assert_eq!(row.get::<_, &str>(0), "7");
///     break;
/// }
/// session.end().await;
/// # Ok(())
/// # }
/// ```
pub struct KeptSession {
    pools: Arc<SubPools<Native>>,
    target: Target,
    /// In the order in which they were last set.
    settings: Vec<(String, String)>,
    held: Option<Held>,
    failovers: u64,
    /// Where it was lost, which has not been said yet.
    moved_from: Option<HostAddr>,
}

impl KeptSession {
    pub(super) fn new(pools: Arc<SubPools<Native>>, target: Target) -> Self {
        Self {
            pools,
            target,
            settings: Vec::new(),
            held: None,
            failovers: 0,
            moved_from: None,
        }
    }

    /// The session's connection, with all its settings. It costs nothing while the connection
    /// lasts.
    ///
    /// Don't leave a transaction open between two uses by a `BEGIN` of your own:
    /// [`transaction`](deadpool_postgres::ClientWrapper::transaction) borrows the connection for
    /// as long as it lasts. Nor end a role or change a setting that was made through the session
    /// by a statement: it would not be recorded.
    ///
    /// # Errors
    ///
    /// - [`Error::SessionMoved`]: once after the connection was lost, if anything but settings can
    ///   have been lost with it. The session is ready by then: the next call succeeds.
    /// - [`Error::NoHost`], [`Error::QueueFull`], [`Error::Connect`], [`Error::Closed`]: as
    ///   [`Pool::get`](crate::Pool::get), and within the same time. `Connect` also if a setting is
    ///   refused by the host where the session should go on.
    ///
    /// # Cancel safety
    ///
    /// Nothing is lost when the future is dropped; a connection that was being prepared is closed.
    pub async fn get(&mut self) -> Result<&mut Client, Error> {
        let deadline = self.deadline();
        // Not before there is another one: a session that finds none has not moved.
        let (held, moved_from) = self.ready(deadline).await?;
        if let Some(from) = moved_from.take() {
            let to = held.generation.host().clone();
            return Err(Error::SessionMoved(Box::new(SessionMoved { from, to })));
        }
        held.is_used = true;
        Ok(held.client_mut())
    }

    /// Sets a server setting for the session, as `SET` does; `role` and `session_authorization`
    /// are settings too.
    ///
    /// Not inside a transaction: if that is rolled back, the server forgets it and leadpool does
    /// not.
    ///
    /// # Errors
    ///
    /// [`Error::Config`] names what can't be a setting; [`Error::Postgres`] is the server's
    /// refusal. Else as [`get`](Self::get), but it never says that the session has moved. After an
    /// error nothing is recorded.
    ///
    /// # Cancel safety
    ///
    /// When the future is dropped the setting may be in force until the connection is lost, and is
    /// not recorded.
    pub async fn set(&mut self, name: &str, value: &str) -> Result<(), Error> {
        check_setting("name", name, value)?;
        self.apply(&set_config(name, Some(value))).await?;
        self.forget(name);
        self.settings.push((name.to_owned(), value.to_owned()));
        Ok(())
    }

    /// Gives a setting the value back that it had when the connection was opened, as `RESET` does.
    ///
    /// # Errors
    ///
    /// As [`set`](Self::set).
    ///
    /// # Cancel safety
    ///
    /// When the future is dropped the setting is still recorded.
    pub async fn reset(&mut self, name: &str) -> Result<(), Error> {
        check_setting("name", name, "")?;
        self.apply(&set_config(name, None)).await?;
        self.forget(name);
        Ok(())
    }

    /// Acts as another role from now on: `SET ROLE`. [`reset`](Self::reset)`("role")` ends it.
    ///
    /// # Errors
    ///
    /// As [`set`](Self::set).
    ///
    /// # Cancel safety
    ///
    /// As [`set`](Self::set).
    pub async fn set_role(&mut self, role: &str) -> Result<(), Error> {
        self.set("role", role).await
    }

    /// Whether transactions may only read: `default_transaction_read_only`.
    ///
    /// # Errors
    ///
    /// As [`set`](Self::set).
    ///
    /// # Cancel safety
    ///
    /// As [`set`](Self::set).
    pub async fn set_read_only(&mut self, read_only: bool) -> Result<(), Error> {
        let value = if read_only { "on" } else { "off" };
        self.set("default_transaction_read_only", value).await
    }

    /// The isolation level of transactions: `default_transaction_isolation`.
    ///
    /// # Errors
    ///
    /// As [`set`](Self::set).
    ///
    /// # Cancel safety
    ///
    /// As [`set`](Self::set).
    pub async fn set_isolation(&mut self, level: IsolationLevel) -> Result<(), Error> {
        self.set("default_transaction_isolation", level.as_str())
            .await
    }

    /// What is recorded, in the order in which it will be set again.
    pub fn settings(&self) -> impl Iterator<Item = (&str, &str)> {
        self.settings
            .iter()
            .map(|(name, value)| (name.as_str(), value.as_str()))
    }

    /// How often its connection was lost, or given up because its host was invalidated.
    #[must_use]
    pub fn failovers(&self) -> u64 {
        self.failovers
    }

    /// The host that it is connected to, if it is.
    #[must_use]
    pub fn host(&self) -> Option<&HostAddr> {
        let held = self.held.as_ref()?;
        held.is_alive().then(|| held.generation.host())
    }

    /// Ends the session: undoes its settings and gives the connection back to the pool; closes it
    /// if that takes longer than opening one may.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future closes the connection.
    pub async fn end(mut self) {
        let Some(mut held) = self.held.take() else {
            return;
        };
        // The last first: a role may not be allowed to undo what was set before it.
        let mut sql = String::from("BEGIN;ROLLBACK;");
        for (name, _) in self.settings.iter().rev() {
            sql.push_str(&set_config(name, None));
        }
        if held.is_set && !held.is_unsure {
            let limit = self.pools.cluster().config().pool().connect_timeout;
            let undone = timeout(limit, held.client().batch_execute(&sql)).await;
            held.is_set = !matches!(undone, Ok(Ok(())));
        }
    }

    fn deadline(&self) -> Instant {
        let limit = self.pools.cluster().config().pool().checkout_timeout;
        let now = Instant::now();
        now.checked_add(limit)
            .unwrap_or_else(|| now + Duration::from_secs(86_400 * 365))
    }

    fn forget(&mut self, name: &str) {
        self.settings
            .retain(|(known, _)| !known.eq_ignore_ascii_case(name));
    }

    /// Lets a lost connection go.
    fn let_go(&mut self) {
        if let Some(held) = self.held.take() {
            self.failovers += 1;
            if held.is_used {
                self.moved_from
                    .get_or_insert_with(|| held.generation.host().clone());
            }
        }
    }

    /// A live connection that has the settings, and where the one before was lost, if that has
    /// not been said yet.
    async fn ready(
        &mut self,
        deadline: Instant,
    ) -> Result<(&mut Held, &mut Option<HostAddr>), Error> {
        if self.held.as_ref().is_some_and(|held| !held.is_alive()) {
            self.let_go();
        }
        let held = match self.held.take() {
            Some(held) => held,
            None => self.open(deadline).await?,
        };
        Ok((self.held.insert(held), &mut self.moved_from))
    }

    /// Takes another connection, and sends the settings to it.
    async fn open(&self, deadline: Instant) -> Result<Held, Error> {
        let begun = Instant::now();
        let sql: String = self
            .settings
            .iter()
            .map(|(name, value)| set_config(name, Some(value)))
            .collect();
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let checkout =
                self.pools
                    .checkout(Purpose::New, self.target, left, |client, generation| {
                        Held::new(client, generation.clone())
                    });
            let mut held = checkout.await?;
            if sql.is_empty() {
                return Ok(held);
            }
            held.is_set = true;
            let lost: BoxError = match timeout_at(deadline, held.client().batch_execute(&sql)).await
            {
                Ok(Ok(())) => return Ok(held),
                Ok(Err(error)) if !is_lost(&error) => {
                    return Err(Error::Connect(Box::new(ConnectError {
                        host: held.generation.host().clone(),
                        source: Box::new(error),
                    })));
                }
                Ok(Err(error)) => Box::new(error),
                Err(elapsed) => Box::new(elapsed),
            };
            drop(held);
            if Instant::now() + PAUSE >= deadline {
                let cluster = self.pools.cluster();
                return Err(cluster.no_host(self.target, begun.elapsed(), Some(lost)));
            }
            sleep(PAUSE).await;
        }
    }

    /// Runs a statement that may be repeated, on as many connections as it takes.
    async fn apply(&mut self, sql: &str) -> Result<(), Error> {
        let (begun, deadline) = (Instant::now(), self.deadline());
        loop {
            let (held, _) = self.ready(deadline).await?;
            (held.is_set, held.is_unsure) = (true, true);
            let lost: BoxError = match timeout_at(deadline, held.client().batch_execute(sql)).await
            {
                Ok(Ok(())) => {
                    held.is_unsure = false;
                    return Ok(());
                }
                Ok(Err(error)) if !is_lost(&error) => {
                    held.is_unsure = false;
                    return Err(error.into());
                }
                Ok(Err(error)) => Box::new(error),
                Err(elapsed) => Box::new(elapsed),
            };
            self.let_go();
            if Instant::now() + PAUSE >= deadline {
                let cluster = self.pools.cluster();
                return Err(cluster.no_host(self.target, begun.elapsed(), Some(lost)));
            }
            sleep(PAUSE).await;
        }
    }
}

impl fmt::Debug for KeptSession {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<_> = self.settings().map(|(name, _)| name).collect();
        f.debug_struct("KeptSession")
            .field("target", &self.target)
            .field("host", &self.host())
            .field("settings", &names)
            .field("failovers", &self.failovers)
            .finish_non_exhaustive()
    }
}

/// The connection, while it lasts. Dropping it gives it back to the pool, or closes it if somebody
/// could inherit what was set there.
struct Held {
    /// `None` only while it is being dropped.
    client: Option<Client>,
    generation: Arc<Generation>,
    /// Whether a setting may be in force.
    is_set: bool,
    /// Whether one may be that is not recorded, since nobody waited for the answer.
    is_unsure: bool,
    /// Whether the application has had it, and may have left more than settings.
    is_used: bool,
}

impl Held {
    fn new(client: Client, generation: Arc<Generation>) -> Self {
        Self {
            client: Some(client),
            generation,
            is_set: false,
            is_unsure: false,
            is_used: false,
        }
    }

    fn client(&self) -> &Client {
        self.client.as_ref().expect(HERE)
    }

    fn client_mut(&mut self) -> &mut Client {
        self.client.as_mut().expect(HERE)
    }

    fn is_alive(&self) -> bool {
        !self.client().is_closed() && !self.generation.is_retired()
    }
}

const HERE: &str = "invariant: the connection leaves only in `drop`";

impl Drop for Held {
    fn drop(&mut self) {
        if let Some(client) = self.client.take().filter(|_| self.is_set) {
            drop(Object::take(client));
        }
    }
}

/// Whether another connection may do.
fn is_lost(error: &tokio_postgres::Error) -> bool {
    Disposition::of_driver(error, TxPhase::Open) == Disposition::WaitTopology
}

/// A statement for a setting that [`check_setting`] has passed; without a value it is reset
/// ([PostgreSQL documentation, section 9.28.1](https://www.postgresql.org/docs/current/functions-admin.html#FUNCTIONS-ADMIN-SET)).
fn set_config(name: &str, value: Option<&str>) -> String {
    let value = match value {
        // Whatever `standard_conforming_strings` says, in this form a backslash has to be doubled.
        Some(value) => format!("E'{}'", value.replace('\\', r"\\").replace('\'', "''")),
        None => "NULL".to_owned(),
    };
    format!("SELECT pg_catalog.set_config('{name}', {value}, false);")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_quoted() {
        assert_eq!(
            set_config("app.x", Some(r"it's a \'")),
            r"SELECT pg_catalog.set_config('app.x', E'it''s a \\''', false);"
        );
    }
}
