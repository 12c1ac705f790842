//! What is played on: plain streaming replication, with the command as its failover manager, or a
//! cluster that Patroni keeps.

use std::{net::SocketAddr, path::PathBuf, time::Duration};

use clap::ValueEnum;
use leadpool_testkit::{Cluster, PatroniCluster, PgInstall};
use tokio_postgres::Client;

use super::{fault::Fault, observer};
use crate::{Replication, Result};

/// How long the stand-in for a failover manager takes to act on a killed or frozen primary.
const MANAGER_ACTS_AFTER: Duration = Duration::from_secs(1);

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Kind {
    /// Plain streaming replication; the command promotes a standby one second after a fault.
    Plain,
    /// Real Patroni and etcd, with a time to live of 5 s. They must be installed.
    Patroni,
}

/// The servers.
pub(crate) enum Stack {
    Plain(Cluster),
    Patroni(Box<PatroniCluster>),
}

impl Stack {
    pub(crate) async fn start(
        kind: Kind,
        install: &PgInstall,
        replication: Replication,
    ) -> Result<Self> {
        let synchronous = replication == Replication::Synchronous;
        Ok(match kind {
            Kind::Plain => Self::Plain(
                Cluster::builder()
                    .install(install.clone())
                    .synchronous(synchronous)
                    .start()
                    .await?,
            ),
            Kind::Patroni => {
                PatroniCluster::available()?;
                let servers = PatroniCluster::builder().synchronous(synchronous);
                Self::Patroni(Box::new(servers.start().await?))
            }
        })
    }

    /// A folder of its own beside those of the hosts. Whatever works there ends with the servers,
    /// also when this process is killed.
    pub(crate) fn folder(&self, name: &str) -> Result<PathBuf> {
        let host = match self {
            Self::Plain(servers) => servers.data_dir(0)?,
            Self::Patroni(servers) => servers.data_dir(0)?,
        };
        let folder = host.with_file_name(name);
        std::fs::create_dir(&folder)?;
        Ok(folder)
    }

    /// Makes the tables that are asked for, and the one that tells when a primary takes writes.
    pub(crate) async fn prepare(&self, tables: &str) -> Result<()> {
        let client = self.connect(self.primary().await?).await?;
        let tables = format!("{tables}; {}", observer::TABLE);
        client.batch_execute(&tables).await?;
        Ok(())
    }

    pub(crate) fn describe(kind: Kind, replication: Replication) -> String {
        let servers = match kind {
            Kind::Plain => "1 primary and 2 standbys",
            Kind::Patroni => "etcd and 3 hosts with Patroni",
        };
        let how = match replication {
            Replication::Synchronous => "synchronous",
            Replication::Asynchronous => "asynchronous",
        };
        format!("{servers}, {how} replication")
    }

    pub(crate) fn hosts(&self) -> usize {
        match self {
            Self::Plain(servers) => servers.hosts(),
            Self::Patroni(servers) => servers.hosts(),
        }
    }

    pub(crate) fn addr(&self, host: usize) -> Result<SocketAddr> {
        Ok(match self {
            Self::Plain(servers) => servers.addr(host)?,
            Self::Patroni(servers) => servers.addr(host)?,
        })
    }

    /// All hosts, and where Patroni answers.
    pub(crate) fn urls(&self) -> (String, Vec<String>) {
        match self {
            Self::Plain(servers) => (servers.url(), Vec::new()),
            Self::Patroni(servers) => (servers.url(), servers.rest_urls()),
        }
    }

    /// One host alone.
    pub(crate) fn host_url(&self, host: usize) -> Result<String> {
        Ok(match self {
            Self::Plain(servers) => servers.host_url(host)?,
            Self::Patroni(servers) => servers.host_url(host)?,
        })
    }

    pub(crate) async fn connect(&self, host: usize) -> Result<Client> {
        Ok(match self {
            Self::Plain(servers) => servers.connect(host).await?,
            Self::Patroni(servers) => servers.connect(host).await?,
        })
    }

    pub(crate) async fn primary(&self) -> Result<usize> {
        Ok(match self {
            Self::Plain(servers) => servers.primary(),
            Self::Patroni(servers) => servers.leader().await?,
        })
    }

    /// Does it, and has another host promoted, or lets Patroni do so.
    pub(crate) async fn strike(&self, fault: Fault, old: usize) -> Result<()> {
        match self {
            Self::Plain(servers) => match fault {
                Fault::Switchover => {
                    let next = (0..servers.hosts()).find(|host| *host != old);
                    servers
                        .switchover(next.ok_or("there is no standby")?)
                        .await?;
                }
                Fault::Kill => {
                    servers.kill(old).await?;
                    tokio::time::sleep(MANAGER_ACTS_AFTER).await;
                    servers.failover().await?;
                }
                Fault::Freeze => {
                    servers.freeze(old).await?;
                    tokio::time::sleep(MANAGER_ACTS_AFTER).await;
                    servers.failover().await?;
                }
                Fault::Manager => {
                    return Err("the fault `manager` needs one: add --stack patroni".into());
                }
            },
            Self::Patroni(servers) => match fault {
                Fault::Switchover => drop(servers.switchover(None).await?),
                Fault::Kill => servers.kill_host(old).await?,
                Fault::Freeze => servers.freeze_host(old).await?,
                Fault::Manager => servers.kill_patroni(old).await?,
            },
        }
        Ok(())
    }

    /// What comes later of itself: a frozen host wakes up.
    pub(crate) async fn aftermath(&self, fault: Fault, old: usize, hold: Duration) -> Result<()> {
        match (self, fault) {
            (Self::Plain(servers), Fault::Freeze) => servers.thaw(old).await?,
            (Self::Patroni(servers), Fault::Freeze) => servers.thaw_host(old).await?,
            _ => return Ok(()),
        }
        tokio::time::sleep(hold).await;
        Ok(())
    }

    /// Makes the cluster whole again.
    pub(crate) async fn heal(&self, fault: Fault, old: usize) -> Result<()> {
        match self {
            Self::Plain(servers) => servers.heal().await?,
            Self::Patroni(servers) => {
                match fault {
                    Fault::Kill => servers.start_host(old).await?,
                    Fault::Manager => servers.start_patroni(old).await?,
                    Fault::Switchover | Fault::Freeze => {}
                }
                servers.wait_healthy().await?;
            }
        }
        Ok(())
    }
}
