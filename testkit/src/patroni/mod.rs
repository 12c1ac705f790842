//! A cluster that Patroni keeps: real Patroni and etcd, as they are run in production.

mod builder;
mod certificate;
mod config;
mod etcd;
mod faults;
mod member;
mod netns;
mod programs;
mod rest;
mod watch;

use std::{net::SocketAddr, path::PathBuf, sync::Arc, time::Duration};

pub use builder::PatroniBuilder;
pub use netns::Partition;
pub use programs::PatroniPrograms;
pub use rest::RestAnswer;
use tempfile::TempDir;
use tokio_postgres::Client;

use self::{etcd::Etcd, member::Member, netns::Network};
use crate::{Error, address::url, guardian::Guardian};

/// Hosts with Patroni and PostgreSQL, and one etcd, made for tests. Hosts are named by their
/// index; Patroni calls them `host0`, `host1`... Unlike in a [`Cluster`](crate::Cluster), nobody
/// has to promote anything: faults are injected, and Patroni does what it does.
///
/// Each host listens on an address of its own in 127.0.0.0/8, all on one port; with
/// [`namespaces`](PatroniBuilder::namespaces) in 198.18.0.0/15. Linux only, with Patroni from 3.0
/// on and etcd from 3.4 on.
///
/// Every method takes `&self`, so faults can be injected while other tasks work. When it is
/// dropped, or the process dies in whatever way, every process is killed, and files and network
/// namespaces are removed.
///
/// ```no_run
/// # async fn f() -> Result<(), leadpool_testkit::Error> {
/// use leadpool_testkit::PatroniCluster;
///
/// if let Err(missing) = PatroniCluster::available() {
///     eprintln!("skipped: {missing}");
///     return Ok(());
/// }
/// let servers = PatroniCluster::start().await?;
/// let old = servers.leader().await?;
/// servers.kill_host(old).await?;
/// let new = servers.wait_new_leader(old).await?; // after `ttl`, 5 s
/// servers.start_host(old).await?;
/// servers.wait_healthy().await?;
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct PatroniCluster {
    members: Vec<Arc<Member>>,
    etcd: Etcd,
    network: Option<Network>,
    ca_pem: Option<String>,
    programs: PatroniPrograms,
    /// Commits wait for a standby.
    synchronous: bool,
    /// How long anything may take.
    limit: Duration,
    // Dropped in this order, after the servers have been killed.
    _dir: TempDir,
    _guardian: Guardian,
}

impl PatroniCluster {
    /// Whether Patroni, etcd and PostgreSQL are installed: with [`PatroniPrograms::find`].
    ///
    /// # Errors
    ///
    /// Those of [`PatroniPrograms::find`]; they say what to do.
    pub fn available() -> Result<PatroniPrograms, Error> {
        PatroniPrograms::find()
    }

    /// The commands that install Patroni and etcd through this system's package manager, each as
    /// its words; `None` where the system is not known. They do not start a server; where etcd is
    /// not there yet, its service is masked. PostgreSQL comes with
    /// [`PgInstall::install_command`](crate::PgInstall::install_command).
    #[must_use]
    pub fn install_command() -> Option<Vec<Vec<String>>> {
        programs::install_command()
    }

    /// Whether this machine permits [`PatroniBuilder::namespaces`], found out by making a small
    /// network. It takes root, `ip` and `iptables`.
    ///
    /// # Errors
    ///
    /// [`Error::Unavailable`] says why not.
    ///
    /// # Cancel safety
    ///
    /// Nothing is left over.
    pub async fn namespaces_permitted() -> Result<(), Error> {
        netns::permitted().await
    }

    /// Starts 3 hosts with a `ttl` of 5 s.
    ///
    /// # Errors
    ///
    /// As [`PatroniBuilder::start`].
    ///
    /// # Cancel safety
    ///
    /// Dropping the future kills what it has started.
    pub async fn start() -> Result<Self, Error> {
        Self::builder().start().await
    }

    /// Chooses what is started.
    pub fn builder() -> PatroniBuilder {
        PatroniBuilder::default()
    }

    /// How many hosts there are.
    #[must_use]
    pub fn hosts(&self) -> usize {
        self.members.len()
    }

    /// Patroni's version, for instance `4.1.5`.
    #[must_use]
    pub fn version(&self) -> &str {
        self.programs.version()
    }

    /// The programs that run.
    #[must_use]
    pub fn programs(&self) -> &PatroniPrograms {
        &self.programs
    }

    /// The name of the cluster, which Patroni calls its scope. PostgreSQL tells it as
    /// `cluster_name`.
    #[must_use]
    pub fn scope(&self) -> &'static str {
        config::SCOPE
    }

    /// The libpq URL of all hosts' PostgreSQL, in their order.
    #[must_use]
    pub fn url(&self) -> String {
        url(self.members.iter().map(|member| member.places.addr))
    }

    /// The URL of one host's PostgreSQL.
    ///
    /// # Errors
    ///
    /// There is no such host.
    pub fn host_url(&self, host: usize) -> Result<String, Error> {
        Ok(url([self.addr(host)?]))
    }

    /// Where a host's PostgreSQL listens.
    ///
    /// # Errors
    ///
    /// There is no such host.
    pub fn addr(&self, host: usize) -> Result<SocketAddr, Error> {
        Ok(self.member(host)?.places.addr)
    }

    /// The URLs of all hosts' REST APIs, in their order, for instance `http://127.77.1.1:8008`.
    #[must_use]
    pub fn rest_urls(&self) -> Vec<String> {
        let scheme = match self.ca_pem {
            Some(_) => "https",
            None => "http",
        };
        let members = self.members.iter();
        members
            .map(|member| format!("{scheme}://{}", member.places.rest))
            .collect()
    }

    /// The certificate of the authority that the REST APIs' certificates are signed with, in PEM;
    /// `None` without [`PatroniBuilder::rest_tls`].
    #[must_use]
    pub fn rest_ca_pem(&self) -> Option<&str> {
        self.ca_pem.as_deref()
    }

    /// The URL of etcd, where Patroni's keys are below `/service/<scope>/`.
    #[must_use]
    pub fn etcd_url(&self) -> String {
        format!("http://{}", self.etcd.addr())
    }

    /// The data folder of a host.
    ///
    /// # Errors
    ///
    /// There is no such host.
    pub fn data_dir(&self, host: usize) -> Result<PathBuf, Error> {
        Ok(self.member(host)?.places.data_dir.clone())
    }

    /// Connects to a host's PostgreSQL as superuser. The connection's task ends with the client.
    ///
    /// # Errors
    ///
    /// What the driver says; or there is no answer in time.
    ///
    /// # Cancel safety
    ///
    /// Nothing is left over.
    pub async fn connect(&self, host: usize) -> Result<Client, Error> {
        self.member(host)?.connect(self.limit).await
    }

    fn member(&self, host: usize) -> Result<&Arc<Member>, Error> {
        self.members.get(host).ok_or_else(|| Error::State {
            host,
            problem: format!("there are only {} hosts", self.hosts()),
        })
    }

    fn state_error(&self, problem: &str) -> Error {
        Error::State {
            host: 0,
            problem: problem.to_owned(),
        }
    }
}

impl Drop for PatroniCluster {
    fn drop(&mut self) {
        // All Patronis first: none is to take over from another.
        for member in &self.members {
            member.kill_patroni();
        }
        for member in &self.members {
            member.kill();
        }
        self.etcd.kill();
    }
}
