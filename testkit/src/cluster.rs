//! A cluster: its hosts, how it starts, how to reach it.

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    path::PathBuf,
    sync::{
        Arc, PoisonError, RwLock,
        atomic::{AtomicUsize, Ordering},
    },
};

use tempfile::TempDir;
use tokio_postgres::Client;

use crate::{
    Error, PgInstall, Proxy, ServerTls,
    address::{distinct_ip, free_addr, url},
    guardian::Guardian,
    host::{Host, Run},
    process::RunAs,
    template,
};

/// Where the hosts listen.
///
/// ```
/// use leadpool_testkit::Addresses;
///
/// assert_eq!(Addresses::default(), Addresses::Shared);
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Addresses {
    /// All on 127.0.0.1, each on a port of its own. Works everywhere.
    #[default]
    Shared,
    /// Each on an address of its own in 127.0.0.0/8, all on one port. Linux only.
    Distinct,
}

/// A real PostgreSQL cluster with streaming replication, made for tests: hosts are named by their
/// index, and host 0 starts as the primary.
///
/// Every method takes `&self`, so faults can be injected while other tasks work. When it is
/// dropped, or the process dies in whatever way, every server process is killed and the files are
/// removed.
///
/// ```no_run
/// # async fn f() -> Result<(), leadpool_testkit::Error> {
/// let cluster = leadpool_testkit::Cluster::start().await?;
/// let client = cluster.connect(0).await?;
/// cluster.kill(0).await?;
/// let new_primary = cluster.failover().await?;
/// assert_ne!(new_primary, 0);
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct Cluster {
    hosts: RwLock<Vec<Arc<Host>>>,
    primary: AtomicUsize,
    pub(crate) synchronous: bool,
    proxies: bool,
    install: PgInstall,
    run_as: RunAs,
    // Dropped in this order, after the servers have been killed.
    dir: TempDir,
    _guardian: Guardian,
}

impl Cluster {
    /// Starts 1 primary and 2 standbys.
    ///
    /// # Errors
    ///
    /// PostgreSQL is not installed, or a server did not start: the error holds its log.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future kills what it has started.
    pub async fn start() -> Result<Self, Error> {
        Self::builder().start().await
    }

    /// Chooses what is started.
    pub fn builder() -> ClusterBuilder {
        ClusterBuilder {
            standbys: 2,
            install: None,
            addresses: Addresses::Shared,
            synchronous: false,
            fresh_initdb: false,
            proxies: false,
            conf: Vec::new(),
            tls: None,
            hba: String::new(),
        }
    }

    /// How many hosts there are, removed ones included.
    #[must_use]
    pub fn hosts(&self) -> usize {
        self.read().len()
    }

    /// The host that was last started or promoted as the primary.
    #[must_use]
    pub fn primary(&self) -> usize {
        self.primary.load(Ordering::SeqCst)
    }

    pub(crate) fn set_primary(&self, host: usize) {
        self.primary.store(host, Ordering::SeqCst);
    }

    /// The programs that the servers run.
    #[must_use]
    pub fn install(&self) -> &PgInstall {
        &self.install
    }

    /// Where a host listens.
    ///
    /// # Errors
    ///
    /// There is no such host.
    pub fn addr(&self, host: usize) -> Result<SocketAddr, Error> {
        Ok(self.host(host)?.addr())
    }

    /// The data folder of a host.
    ///
    /// # Errors
    ///
    /// There is no such host.
    pub fn data_dir(&self, host: usize) -> Result<PathBuf, Error> {
        Ok(self.host(host)?.data_dir.clone())
    }

    /// The proxy in front of a host.
    ///
    /// # Errors
    ///
    /// There is no such host, or the cluster was started without proxies.
    pub fn proxy(&self, host: usize) -> Result<Arc<Proxy>, Error> {
        let host = self.host(host)?;
        host.proxy.clone().ok_or_else(|| {
            host.state_error("has no proxy; start the cluster with `builder().proxies(true)`")
        })
    }

    /// The libpq URL of all hosts, in their order.
    #[must_use]
    pub fn url(&self) -> String {
        url(self
            .read()
            .iter()
            .filter(|host| host.run() != Run::Removed)
            .map(|host| host.addr()))
    }

    /// The URL of all hosts through their proxies, where they have one.
    #[must_use]
    pub fn proxied_url(&self) -> String {
        let hosts = self.read();
        let hosts = hosts.iter().filter(|host| host.run() != Run::Removed);
        url(hosts.map(|host| {
            host.proxy
                .as_ref()
                .map_or_else(|| host.addr(), |p| p.addr())
        }))
    }

    /// The URL of one host.
    ///
    /// # Errors
    ///
    /// There is no such host.
    pub fn host_url(&self, host: usize) -> Result<String, Error> {
        Ok(url([self.host(host)?.addr()]))
    }

    /// Connects to a host as superuser, past its proxy. The connection's task ends with the
    /// client.
    ///
    /// # Errors
    ///
    /// What the driver says.
    ///
    /// # Cancel safety
    ///
    /// Nothing is left over.
    pub async fn connect(&self, host: usize) -> Result<Client, Error> {
        self.host(host)?.connect().await
    }

    pub(crate) fn host(&self, host: usize) -> Result<Arc<Host>, Error> {
        self.read().get(host).cloned().ok_or_else(|| Error::State {
            host,
            problem: format!("there are only {} hosts", self.hosts()),
        })
    }

    /// The hosts that have not been removed.
    pub(crate) fn all(&self) -> Vec<Arc<Host>> {
        let hosts = self.read();
        hosts
            .iter()
            .filter(|host| host.run() != Run::Removed)
            .cloned()
            .collect()
    }

    fn read(&self) -> std::sync::RwLockReadGuard<'_, Vec<Arc<Host>>> {
        self.hosts.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes the next host; its data folder does not exist yet.
    pub(crate) async fn new_host(&self, ip: IpAddr, port: Option<u16>) -> Result<Arc<Host>, Error> {
        let addr = match port {
            Some(port) => SocketAddr::new(ip, port),
            None => free_addr(ip)?,
        };
        let proxy = match self.proxies {
            true => Some(Arc::new(Proxy::start(addr).await?)),
            false => None,
        };
        let mut hosts = self.hosts.write().unwrap_or_else(PoisonError::into_inner);
        let host = Arc::new(Host::new(
            hosts.len(),
            self.dir.path(),
            &self.install,
            &self.run_as,
            addr,
            proxy,
        ));
        hosts.push(host.clone());
        Ok(host)
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        for host in self.read().iter() {
            host.kill();
        }
    }
}

/// Chooses what [`Cluster::start`] starts.
///
/// ```no_run
/// # async fn f() -> Result<(), leadpool_testkit::Error> {
/// let cluster = leadpool_testkit::Cluster::builder()
///     .standbys(1)
///     .synchronous(true)
///     .conf("log_statement", "all")
///     .start()
///     .await?;
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
#[must_use = "a builder does nothing until `start` is awaited"]
pub struct ClusterBuilder {
    standbys: usize,
    install: Option<PgInstall>,
    addresses: Addresses,
    synchronous: bool,
    fresh_initdb: bool,
    proxies: bool,
    conf: Vec<(String, String)>,
    tls: Option<ServerTls>,
    hba: String,
}

impl ClusterBuilder {
    /// How many standbys; 2 if not set.
    pub fn standbys(mut self, standbys: usize) -> Self {
        self.standbys = standbys;
        self
    }

    /// Which PostgreSQL; what [`PgInstall::find`] finds if not set.
    pub fn install(mut self, install: PgInstall) -> Self {
        self.install = Some(install);
        self
    }

    /// Where the hosts listen.
    pub fn addresses(mut self, addresses: Addresses) -> Self {
        self.addresses = addresses;
        self
    }

    /// Whether each commit waits for one standby (`ANY 1 (*)`). It is set on the primary only; a
    /// promoted standby begins without, as under a manager that follows its members, until
    /// [`Cluster::heal`].
    pub fn synchronous(mut self, synchronous: bool) -> Self {
        self.synchronous = synchronous;
        self
    }

    /// Whether it gets a system identifier of its own; clusters from the cached template all have
    /// the same one.
    pub fn fresh_initdb(mut self, fresh: bool) -> Self {
        self.fresh_initdb = fresh;
        self
    }

    /// Whether there is a [`Proxy`] in front of each host.
    pub fn proxies(mut self, proxies: bool) -> Self {
        self.proxies = proxies;
        self
    }

    /// Adds a line to every host's `postgresql.conf`.
    pub fn conf(mut self, key: impl Into<String>, value: impl Into<String>) -> Self {
        self.conf.push((key.into(), value.into()));
        self
    }

    /// Lets every host speak TLS, with one certificate for all. Who asks for none is still served:
    /// see [`hba`](Self::hba). Another one for a single host: [`Cluster::set_tls`].
    pub fn tls(mut self, tls: ServerTls) -> Self {
        self.tls = Some(tls);
        self
    }

    /// Adds a line to every host's `pg_hba.conf`, before those that let everybody in from this
    /// machine: it decides for whom it fits. It must not fit the role `postgres`, which the testkit
    /// itself uses.
    ///
    /// ```
    /// let builder = leadpool_testkit::Cluster::builder()
    ///     .hba("hostssl all app all scram-sha-256")
    ///     .hba("host all app all reject");
    /// # drop(builder);
    /// ```
    pub fn hba(mut self, line: &str) -> Self {
        self.hba.push_str(line);
        self.hba.push('\n');
        self
    }

    /// Starts it: returns when all standbys stream.
    ///
    /// # Errors
    ///
    /// As [`Cluster::start`].
    ///
    /// # Cancel safety
    ///
    /// Dropping the future kills what it has started.
    pub async fn start(self) -> Result<Cluster, Error> {
        let install = match self.install {
            Some(install) => install,
            None => PgInstall::find()?,
        };
        let run_as = RunAs::find()?;
        let dir = tempfile::Builder::new()
            .prefix("leadpool-")
            .tempdir()
            .map_err(Error::io("making a temporary folder"))?;
        run_as.make_dir(dir.path())?;
        let cluster = Cluster {
            hosts: RwLock::new(Vec::new()),
            primary: AtomicUsize::new(0),
            synchronous: self.synchronous,
            proxies: self.proxies,
            install,
            run_as,
            _guardian: Guardian::start(dir.path())?,
            dir,
        };

        let mut port = None;
        for index in 0..=self.standbys {
            let ip = match self.addresses {
                Addresses::Shared => IpAddr::V4(Ipv4Addr::LOCALHOST),
                Addresses::Distinct => distinct_ip(index),
            };
            let host = cluster.new_host(ip, port).await?;
            if self.addresses == Addresses::Distinct {
                port.get_or_insert_with(|| host.addr().port());
            }
        }
        let hosts = cluster.all();
        let first = &hosts[0];
        template::data_dir(
            &cluster.install,
            &cluster.run_as,
            &first.data_dir,
            self.fresh_initdb,
        )
        .await?;
        let mut lines = String::new();
        for (key, value) in &self.conf {
            lines.push_str(&format!("{key} = '{}'\n", value.replace('\'', "''")));
        }
        if let Some(tls) = &self.tls {
            tls.write(&first.data_dir, &cluster.run_as)?;
            lines.push_str(&tls.conf());
        }
        let conf = first.data_dir.join("postgresql.conf");
        let text = std::fs::read_to_string(&conf).map_err(Error::io("postgresql.conf"))?;
        std::fs::write(&conf, text + &lines).map_err(Error::io("postgresql.conf"))?;
        let hba = first.data_dir.join("pg_hba.conf");
        let text = std::fs::read_to_string(&hba).map_err(Error::io("pg_hba.conf"))?;
        std::fs::write(&hba, self.hba + &text).map_err(Error::io("pg_hba.conf"))?;
        for host in &hosts[1..] {
            // Cold copies have one system identifier: no base backup is needed.
            template::copy(&cluster.run_as, &first.data_dir, &host.data_dir).await?;
        }
        first.start(true).await?;
        for host in &hosts[1..] {
            host.write_standby_files(first.addr())?;
        }
        let starts = hosts[1..].iter().cloned().map(start);
        join_all(starts).await?;
        cluster.wait_streaming().await?;
        cluster.apply_synchronous().await?;
        Ok(cluster)
    }
}

async fn start(host: Arc<Host>) -> Result<(), Error> {
    host.start(true).await
}

/// Runs all to their ends; the first error counts.
async fn join_all<F>(futures: impl IntoIterator<Item = F>) -> Result<(), Error>
where
    F: Future<Output = Result<(), Error>> + Send + 'static,
{
    let mut set = tokio::task::JoinSet::new();
    for future in futures {
        set.spawn(future);
    }
    while let Some(ended) = set.join_next().await {
        match ended {
            Ok(result) => result?,
            Err(error) => {
                return Err(Error::State {
                    host: 0,
                    problem: format!("a task failed: {error}"),
                });
            }
        }
    }
    Ok(())
}
