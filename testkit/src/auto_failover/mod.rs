//! A cluster that pg_auto_failover looks after.

mod builder;
mod keeper;

use std::{
    net::SocketAddr,
    sync::{Arc, PoisonError, RwLock, RwLockReadGuard},
    time::Duration,
};

pub use builder::AutoFailoverBuilder;
use keeper::{Keeper, Place};
use tempfile::TempDir;
use tokio_postgres::{Client, Row};

use crate::{Error, address::url, guardian::Guardian, host::Run, programs};

/// How long a change of state may take.
const LIMIT: Duration = Duration::from_secs(60);

/// A real PostgreSQL cluster that
/// [pg_auto_failover](https://pg-auto-failover.readthedocs.io) looks after: its monitor, and hosts
/// with a `pg_autoctl` each. Hosts are named by their index, and host 0 starts as the primary.
///
/// The names in the formation `default` are `host0`, `host1` and so on. Replication is
/// synchronous, as pg_auto_failover has it. The monitor's timeouts are set to a few seconds.
///
/// When it is dropped, or the process dies in whatever way, every process is killed and the files
/// are removed.
///
/// ```no_run
/// use leadpool_testkit::AutoFailover;
///
/// # async fn f() -> Result<(), leadpool_testkit::Error> {
/// let formation = AutoFailover::builder().hosts(2).start().await?;
/// let monitor = formation.monitor_url(); // for what asks `pgautofailover.get_nodes()`
/// let new_primary = formation.failover().await?;
/// formation.start_host(0).await?; // the old one is a standby now
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct AutoFailover {
    // Dropped in this order: the servers before their folder.
    hosts: RwLock<Vec<Arc<Keeper>>>,
    monitor: Keeper,
    place: Place,
    _dir: TempDir,
    _guardian: Guardian,
}

impl AutoFailover {
    /// Whether it can run here.
    ///
    /// # Errors
    ///
    /// [`Error::Missing`] or [`Error::NotInstalled`] says what to install: the reason why a test
    /// is skipped.
    pub fn available() -> Result<(), Error> {
        builder::find().map(drop)
    }

    /// The commands that install pg_auto_failover through the package manager of Debian and
    /// Ubuntu, each as its words; `None` elsewhere.
    #[must_use]
    pub fn install_command() -> Option<Vec<Vec<String>>> {
        programs::install_command(&builder::PACKAGES)
    }

    /// Chooses what is started.
    pub fn builder() -> AutoFailoverBuilder {
        AutoFailoverBuilder::default()
    }

    /// How many hosts there are, dropped ones included.
    #[must_use]
    pub fn hosts(&self) -> usize {
        self.read().len()
    }

    /// The URL of the monitor's database, with the role that the hosts have there: it may ask
    /// `pgautofailover.get_nodes()`.
    #[must_use]
    pub fn monitor_url(&self) -> String {
        format!(
            "postgres://autoctl_node@{}/pg_auto_failover",
            self.monitor.addr
        )
    }

    /// The libpq URL of all hosts, in their order, dropped ones excepted.
    #[must_use]
    pub fn url(&self) -> String {
        let hosts = self.read();
        let hosts = hosts.iter().filter(|host| host.run() != Run::Removed);
        url(hosts.map(|host| host.addr))
    }

    /// Where a host listens.
    ///
    /// # Errors
    ///
    /// There is no such host.
    pub fn addr(&self, host: usize) -> Result<SocketAddr, Error> {
        Ok(self.host(host)?.addr)
    }

    /// Connects to a host as superuser. The connection's task ends with the client.
    ///
    /// # Errors
    ///
    /// What the driver says.
    ///
    /// # Cancel safety
    ///
    /// Nothing is left over.
    pub async fn connect(&self, host: usize) -> Result<Client, Error> {
        let connecting = self.host(host)?;
        let connecting = connecting.connect("postgres", "postgres");
        connecting.await.map_err(Error::sql(host))
    }

    /// The primary in the eyes of the monitor: for some seconds also one that is lost.
    ///
    /// # Errors
    ///
    /// The monitor does not answer, or knows of no primary.
    ///
    /// # Cancel safety
    ///
    /// Nothing is left over.
    pub async fn primary(&self) -> Result<usize, Error> {
        let sql = "SELECT primary_name FROM pgautofailover.get_primary('default', 0)";
        let name: Option<String> = match self.ask_monitor(sql).await? {
            rows if rows.is_empty() => None,
            rows => rows[0].get(0),
        };
        let index = name.and_then(|name| name.strip_prefix("host")?.parse().ok());
        index.ok_or_else(|| self.monitor.daemon.error("it knows of no primary"))
    }

    /// Waits until every host that runs is in its place: one primary that accepts writes, and
    /// nothing but standbys that follow it. Says which host is the primary.
    ///
    /// # Errors
    ///
    /// That does not happen in time.
    ///
    /// # Cancel safety
    ///
    /// It only looks.
    pub async fn wait_stable(&self) -> Result<usize, Error> {
        self.wait_for_primary(None, &self.monitor).await
    }

    /// Lets the monitor hand the role over to a standby, and waits for the end of it. Says which
    /// host is the primary.
    ///
    /// # Errors
    ///
    /// There is no standby that could take over, or it takes too long.
    pub async fn switchover(&self) -> Result<usize, Error> {
        let old = self.wait_stable().await?;
        let sql = "SELECT pgautofailover.perform_failover('default', 0)::text";
        self.ask_monitor(sql).await?;
        self.wait_for_primary(Some(old), &self.monitor).await
    }

    /// Kills the primary with its `pg_autoctl`, and waits until the monitor has made another host
    /// the primary. Says which one. It takes about eight seconds.
    ///
    /// # Errors
    ///
    /// There is no standby that could take over, or it takes too long.
    pub async fn failover(&self) -> Result<usize, Error> {
        let old = self.wait_stable().await?;
        self.kill_host(old).await?;
        self.wait_for_primary(Some(old), &self.monitor).await
    }

    /// Kills every process of a host at once, `pg_autoctl` included, as a power cut does.
    ///
    /// # Errors
    ///
    /// There is no such host.
    pub async fn kill_host(&self, host: usize) -> Result<(), Error> {
        self.host(host)?.kill();
        Ok(())
    }

    /// Starts a killed host's `pg_autoctl` and waits until all are in their places.
    ///
    /// # Errors
    ///
    /// It is not stopped, or comes to no good end in time.
    pub async fn start_host(&self, host: usize) -> Result<(), Error> {
        let keeper = self.host(host)?;
        if keeper.run() != Run::Stopped {
            let problem = "is not stopped".to_owned();
            return Err(Error::State { host, problem });
        }
        keeper.start()?;
        self.wait_for_primary(None, &keeper).await.map(drop)
    }

    /// Adds a host and waits until it follows the primary. Says its index.
    ///
    /// # Errors
    ///
    /// A step fails or takes too long.
    pub async fn add_host(&self) -> Result<usize, Error> {
        let (index, keeper) = {
            let mut hosts = self.hosts.write().unwrap_or_else(PoisonError::into_inner);
            let keeper = Arc::new(Keeper::host(&self.place, hosts.len())?);
            hosts.push(keeper.clone());
            (hosts.len() - 1, keeper)
        };
        if index == 0 {
            keeper.prepare(&self.place, false, "").await?;
        }
        let (monitor, sockets) = (self.monitor_url(), self.place.sockets());
        keeper.create(
            "postgres",
            &[
                ("--name", keeper.name.as_str()),
                ("--monitor", &monitor),
                ("--username", "postgres"),
                ("--dbname", "postgres"),
                ("--pghost", &sockets.to_string_lossy()),
                ("--listen", "127.0.0.1"),
            ],
        )?;
        self.wait_for_primary(None, &keeper).await?;
        Ok(index)
    }

    /// Takes a host out of the formation for good: kills it, as far as it runs, and has it dropped
    /// as `pg_autoctl drop node --force` does. A host that runs could be dropped without, but of
    /// two hosts the monitor then now and then makes both a primary.
    ///
    /// # Errors
    ///
    /// There is no such host, it is the primary, or the monitor refuses.
    pub async fn drop_host(&self, host: usize) -> Result<(), Error> {
        let keeper = self.host(host)?;
        if self.primary().await? == host {
            let problem = "is the primary; switch or fail over first".to_owned();
            return Err(Error::State { host, problem });
        }
        keeper.remove();
        let words = ["drop", "node", "--force", "--name", &keeper.name];
        let mut command = self.monitor.command(&words);
        command.args(["--monitor", &self.monitor_url()]);
        self.monitor.daemon.run(command).await?;
        self.wait_stable().await.map(drop)
    }

    /// Kills the monitor. The hosts go on in their roles, and nobody replaces a lost primary.
    ///
    /// # Errors
    ///
    /// None so far.
    pub async fn kill_monitor(&self) -> Result<(), Error> {
        self.monitor.kill();
        Ok(())
    }

    /// Starts a killed monitor, and waits until all are in their places.
    ///
    /// # Errors
    ///
    /// It runs, or does not start, or they are not in time.
    pub async fn start_monitor(&self) -> Result<(), Error> {
        if self.monitor.run() == Run::Running {
            return Err(self.monitor.daemon.error("it runs already"));
        }
        self.monitor.start()?;
        self.wait_for_monitor().await?;
        self.wait_stable().await.map(drop)
    }

    fn host(&self, host: usize) -> Result<Arc<Keeper>, Error> {
        self.read().get(host).cloned().ok_or_else(|| Error::State {
            host,
            problem: format!("there are only {} hosts", self.hosts()),
        })
    }

    fn read(&self) -> RwLockReadGuard<'_, Vec<Arc<Keeper>>> {
        self.hosts.read().unwrap_or_else(PoisonError::into_inner)
    }

    async fn ask_monitor(&self, sql: &str) -> Result<Vec<Row>, Error> {
        let failed = |source| Error::Monitor { source };
        let client = self.monitor.connect("autoctl_node", "pg_auto_failover");
        let client = client.await.map_err(failed)?;
        client.query(sql, &[]).await.map_err(failed)
    }

    async fn wait_for_monitor(&self) -> Result<(), Error> {
        let what = "the monitor to answer";
        let answers = || async {
            let asked = self.ask_monitor("SELECT FROM pgautofailover.get_nodes()");
            Ok(asked.await.ok().map(drop))
        };
        self.monitor.daemon.until(what, LIMIT, answers).await
    }

    /// Waits until all are in their places, and the primary is another than `old`.
    async fn wait_for_primary(&self, old: Option<usize>, watched: &Keeper) -> Result<usize, Error> {
        let what = "all hosts to be in their places";
        let settled = || async {
            let primary = self.settled().await;
            Ok(primary.filter(|primary| Some(*primary) != old))
        };
        watched.daemon.until(what, LIMIT, settled).await
    }

    /// The primary, if every host that runs is in a state that lasts. Who does not answer is not.
    async fn settled(&self) -> Option<usize> {
        let hosts: Vec<Arc<Keeper>> = self.read().clone();
        let running: Vec<usize> = (0..hosts.len())
            .filter(|host| hosts[*host].run() == Run::Running)
            .collect();
        let sql = "SELECT nodename, current_group_state::text, assigned_group_state::text \
                   FROM pgautofailover.current_state()";
        let rows = self.ask_monitor(sql).await.ok()?;
        let mut primary = None;
        for host in &running {
            let row = rows
                .iter()
                .find(|row| row.get::<_, &str>(0) == hosts[*host].name)?;
            let state: &str = row.get(1);
            // A primary that has lost its last standby lets no commit through until it has
            // another state.
            let leads = match running.len() {
                1 => matches!(state, "single" | "wait_primary"),
                _ => state == "primary",
            };
            if state != row.get::<_, &str>(2) || (!leads && state != "secondary") {
                return None;
            }
            if leads && primary.replace(*host).is_some() {
                return None;
            }
        }
        let sql = "SELECT NOT pg_is_in_recovery() \
                   AND NOT current_setting('transaction_read_only')::bool";
        let client = self.connect(primary?).await.ok()?;
        let writable: bool = client.query_one(sql, &[]).await.ok()?.get(0);
        primary.filter(|_| writable)
    }
}
