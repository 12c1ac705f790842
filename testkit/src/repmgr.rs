//! A cluster that repmgr looks after.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio_postgres::Client;

use crate::{Cluster, Error, PgInstall, daemon::Daemon, host::Run, programs, wait::LIMIT};

const PACKAGES: [&str; 2] = ["repmgr", "postgresql-NN-repmgr"];
/// The role and the database of repmgr's own table, as its documentation has them.
const NAME: &str = "repmgr";
const CONF: &str = "repmgr.conf";
/// How often it is asked whether a failover has happened: each time it is a connection to every
/// host, which must not keep the servers from it.
const PROMOTION_POLL: Duration = Duration::from_millis(100);

/// A [`Cluster`] whose hosts are registered with [repmgr](https://repmgr.org), each watched by a
/// `repmgrd`: when the primary is lost, a standby is promoted and the others follow it, without
/// anybody's help.
///
/// The hosts are named `host0`, `host1` and so on; their `node_id` is the index plus one. The
/// table `repmgr.nodes` is in the database `repmgr`, on every host. There is no fencing: a former
/// primary that is started again is a second one, and `repmgr.nodes` on it still calls it the
/// primary.
///
/// Dropping it ends every process, as with [`Cluster`].
///
/// ```no_run
/// use leadpool_testkit::Repmgr;
///
/// # async fn f() -> Result<(), leadpool_testkit::Error> {
/// let repmgr = Repmgr::start().await?;
/// let url = repmgr.repmgr_url(); // for what asks `repmgr.nodes`
/// let new_primary = repmgr.failover().await?;
/// repmgr.rejoin(0).await?; // the old one is a standby now
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct Repmgr {
    // Before the cluster, which has their folders.
    daemons: Mutex<BTreeMap<usize, Arc<Daemon>>>,
    cluster: Cluster,
}

impl Repmgr {
    /// Whether it can run here.
    ///
    /// # Errors
    ///
    /// [`Error::Missing`] or [`Error::NotInstalled`] says what to install: the reason why a test
    /// is skipped.
    pub fn available() -> Result<(), Error> {
        install().map(drop)
    }

    /// The commands that install repmgr through the package manager of Debian and Ubuntu, each as
    /// its words; `None` elsewhere.
    #[must_use]
    pub fn install_command() -> Option<Vec<Vec<String>>> {
        programs::install_command(&PACKAGES)
    }

    /// Starts 1 primary and 2 standbys, registers them, and starts a `repmgrd` for each.
    ///
    /// # Errors
    ///
    /// As [`available`](Self::available) and [`Cluster::start`]; a program of repmgr failed.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future kills what it has started.
    pub async fn start() -> Result<Self, Error> {
        let cluster = Cluster::builder()
            .install(install()?)
            // For repmgrd: it keeps in shared memory what others ask it.
            .conf("shared_preload_libraries", "repmgr")
            .start()
            .await?;
        let client = cluster.connect(0).await?;
        for sql in [
            format!("CREATE ROLE {NAME} LOGIN SUPERUSER"),
            format!("CREATE DATABASE {NAME} OWNER {NAME}"),
        ] {
            client.batch_execute(&sql).await.map_err(Error::sql(0))?;
        }
        let this = Self {
            daemons: Mutex::new(BTreeMap::new()),
            cluster,
        };
        let primary = this.configure(0)?;
        this.repmgr(&primary, &["primary", "register"]).await?;
        this.watch(&primary).await?;
        for standby in 1..this.cluster.hosts() {
            this.register_standby(standby).await?;
        }
        Ok(this)
    }

    /// The servers. Faults of theirs are seen by `repmgrd`; the changes of role that it makes are
    /// known to the cluster after [`wait_for_promotion`](Self::wait_for_promotion).
    #[must_use]
    pub fn cluster(&self) -> &Cluster {
        &self.cluster
    }

    /// The URL of all hosts, in their order, for an application.
    #[must_use]
    pub fn url(&self) -> String {
        self.cluster.url()
    }

    /// The URL of all hosts, in their order, with the role and the database of `repmgr.nodes`.
    #[must_use]
    pub fn repmgr_url(&self) -> String {
        let url = self.cluster.url();
        let hosts = url
            .trim_start_matches("postgres://postgres@")
            .trim_end_matches("/postgres");
        format!("postgres://{NAME}@{hosts}/{NAME}")
    }

    /// Where a host listens.
    ///
    /// # Errors
    ///
    /// There is no such host.
    pub fn addr(&self, host: usize) -> Result<SocketAddr, Error> {
        self.cluster.addr(host)
    }

    /// Kills the primary with its `repmgrd`, as a power cut does, and waits until another has its
    /// place. Says which one.
    ///
    /// # Errors
    ///
    /// Nothing is promoted in time.
    pub async fn failover(&self) -> Result<usize, Error> {
        let primary = self.cluster.primary();
        if let Some(daemon) = self.lock().get(&primary) {
            daemon.kill();
        }
        self.cluster.kill(primary).await?;
        self.wait_for_promotion().await
    }

    /// Waits until another host than [`Cluster::primary`] is the primary, all registered standbys
    /// that run stream from it, and `repmgr.nodes` says so on each of them. Says which one.
    ///
    /// # Errors
    ///
    /// That does not happen in time.
    pub async fn wait_for_promotion(&self) -> Result<usize, Error> {
        let old = self.cluster.primary();
        let running = self.running(|host| host != old)?;
        let Some((_, watcher)) = running.first() else {
            let problem = "no registered standby runs that could be promoted".to_owned();
            return Err(Error::State { host: old, problem });
        };
        let hosts: Vec<usize> = running.iter().map(|(host, _)| *host).collect();
        let new = watcher
            .until("the promotion of a standby", LIMIT, || async {
                let new = self.agreed_primary(&hosts).await.filter(|new| *new != old);
                if new.is_none() {
                    tokio::time::sleep(PROMOTION_POLL).await;
                }
                Ok(new)
            })
            .await?;
        self.cluster.set_primary(new);
        for standby in hosts.into_iter().filter(|host| *host != new) {
            let streams = || async {
                let streams = self.cluster.has_followed(standby).await?;
                Ok(streams.then_some(()))
            };
            watcher
                .until("the standbys to stream", LIMIT, streams)
                .await?;
        }
        Ok(new)
    }

    /// Makes a former primary, stopped or running, a standby of the current one, and registers it
    /// as such.
    ///
    /// # Errors
    ///
    /// As [`Cluster::rejoin`] and [`register_standby`](Self::register_standby).
    pub async fn rejoin(&self, host: usize) -> Result<(), Error> {
        self.cluster.rejoin(host).await?;
        self.register_standby(host).await
    }

    /// Registers a standby that runs, whether it was registered before or not, and starts its
    /// `repmgrd`: also one that was added to the [cluster](Self::cluster) later.
    ///
    /// # Errors
    ///
    /// There is no such host, or repmgr refuses it.
    pub async fn register_standby(&self, standby: usize) -> Result<(), Error> {
        // It has to have the role, the database and the table.
        self.cluster.wait_host_replayed(standby).await?;
        let daemon = self.configure(standby)?;
        let words = ["standby", "register", "--force", "--wait-sync=30"];
        self.repmgr(&daemon, &words).await?;
        self.watch(&daemon).await
    }

    /// Ends a standby's `repmgrd` and takes the standby out of `repmgr.nodes`. The server runs on,
    /// and after a failover it goes on following the old primary.
    ///
    /// # Errors
    ///
    /// It is no registered standby, or repmgr refuses.
    pub async fn unregister_standby(&self, standby: usize) -> Result<(), Error> {
        let daemon = self.lock().get(&standby).cloned();
        let daemon = daemon.filter(|_| standby != self.cluster.primary());
        let daemon = daemon.ok_or_else(|| Error::State {
            host: standby,
            problem: "is no standby that is registered with repmgr".to_owned(),
        })?;
        daemon.kill();
        self.repmgr(&daemon, &["standby", "unregister"]).await?;
        self.lock().remove(&standby);
        Ok(())
    }

    /// Connects to the database `repmgr` of a host.
    ///
    /// # Errors
    ///
    /// What the driver says.
    ///
    /// # Cancel safety
    ///
    /// Nothing is left over.
    pub async fn connect(&self, host: usize) -> Result<Client, Error> {
        self.cluster.host(host)?.connect_to(NAME, NAME).await
    }

    /// The registered hosts that run, with their daemons.
    fn running(&self, wanted: impl Fn(usize) -> bool) -> Result<Vec<(usize, Arc<Daemon>)>, Error> {
        let mut running = Vec::new();
        for (host, daemon) in self.lock().iter() {
            if wanted(*host) && self.cluster.host(*host)?.run() == Run::Running {
                running.push((*host, daemon.clone()));
            }
        }
        Ok(running)
    }

    /// The primary, if the tables of all these hosts say the same: that it is one of them, and
    /// that the others follow it.
    async fn agreed_primary(&self, hosts: &[usize]) -> Option<usize> {
        let mut agreed = None;
        for host in hosts {
            // One that does not answer has not agreed yet.
            let client = self.connect(*host).await.ok()?;
            let sql = "SELECT node_id, type, upstream_node_id FROM repmgr.nodes WHERE active";
            let rows = client.query(sql, &[]).await.ok()?;
            let primaries: Vec<i32> = rows
                .iter()
                .filter(|row| row.get::<_, &str>(1) == "primary")
                .map(|row| row.get(0))
                .collect();
            let [primary] = primaries[..] else {
                return None;
            };
            let follows = |id: i32| {
                let mut rows = rows.iter();
                rows.any(|row| {
                    row.get::<_, i32>(0) == id && row.get::<_, Option<i32>>(2) == Some(primary)
                })
            };
            let mut ids = hosts.iter().map(|host| node_id(*host));
            if !ids.all(|id| id == primary || follows(id)) {
                return None;
            }
            if *agreed.get_or_insert(primary) != primary {
                return None;
            }
        }
        usize::try_from(agreed? - 1).ok()
    }

    /// Writes a host's configuration.
    fn configure(&self, host: usize) -> Result<Arc<Daemon>, Error> {
        let server = self.cluster.host(host)?;
        let dir = server.data_dir.parent().unwrap_or(&server.data_dir);
        let known = self.lock().get(&host).cloned();
        let daemon = match known {
            Some(daemon) => daemon,
            None => {
                let name = format!("repmgr of host {host}");
                Arc::new(Daemon::new(name, dir, &format!("r{host}"), &server.run_as)?)
            }
        };
        let (bin, addr) = (server.install.bin_dir().display(), server.addr());
        let conf = conf(&daemon);
        let program = format!("{bin}/repmgr -f {}", conf.display());
        let text = format!(
            "node_id={id}\n\
             node_name='host{host}'\n\
             conninfo='host={ip} port={port} user={NAME} dbname={NAME} connect_timeout=2'\n\
             data_directory='{data}'\n\
             pg_bindir='{bin}'\n\
             failover=automatic\n\
             promote_command='{program} standby promote'\n\
             follow_command='{program} standby follow --upstream-node-id=%n'\n\
             monitor_interval_secs=1\n\
             reconnect_attempts=2\n\
             reconnect_interval=1\n",
            id = node_id(host),
            ip = addr.ip(),
            port = addr.port(),
            data = server.data_dir.display(),
        );
        daemon.write(CONF, &text)?;
        self.lock().insert(host, daemon.clone());
        Ok(daemon)
    }

    /// Runs `repmgr` as on that host.
    async fn repmgr(&self, daemon: &Daemon, words: &[&str]) -> Result<(), Error> {
        let mut command = daemon.command(self.cluster.install().bin_dir().join("repmgr"));
        command.arg("-f").arg(conf(daemon)).args(words);
        daemon.run(command).await.map(drop)
    }

    /// Starts `repmgrd`, and waits until it watches.
    async fn watch(&self, daemon: &Daemon) -> Result<(), Error> {
        let mut command = daemon.command(self.cluster.install().bin_dir().join("repmgrd"));
        command.arg("-f").arg(conf(daemon));
        command.args(["--daemonize=false", "--no-pid-file"]);
        daemon.spawn(command)?;
        daemon
            .until("repmgrd to watch", LIMIT, || async {
                let log = daemon.printed();
                let watches = ["monitoring cluster primary", "monitoring connection to"];
                Ok(watches
                    .iter()
                    .any(|words| log.contains(words))
                    .then_some(()))
            })
            .await
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<usize, Arc<Daemon>>> {
        self.daemons.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn conf(daemon: &Daemon) -> PathBuf {
    daemon.home().join(CONF)
}

/// repmgr counts from one.
fn node_id(host: usize) -> i32 {
    i32::try_from(host).map_or(i32::MAX, |host| host + 1)
}

fn install() -> Result<PgInstall, Error> {
    let install = programs::install_with("repmgr.so")?;
    let has = |install: &PgInstall| {
        let bin = install.bin_dir();
        bin.join("repmgr").is_file() && bin.join("repmgrd").is_file()
    };
    install.filter(has).ok_or_else(|| {
        let what = "the programs `repmgr` and `repmgrd`, and the extension of that name, beside PostgreSQL's own";
        programs::missing("repmgr", what, &PACKAGES)
    })
}
