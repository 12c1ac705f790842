#![doc = include_str!("../README.md")]

mod address;
mod auto_failover;
mod cluster;
mod daemon;
mod error;
mod faults;
mod guardian;
mod host;
mod install;
mod libpq;
mod log;
mod name_server;
mod patroni;
mod process;
mod programs;
mod proxy;
mod repair;
mod repmgr;
mod session;
mod system;
mod template;
mod tls;
mod wait;

pub use auto_failover::{AutoFailover, AutoFailoverBuilder};
pub use cluster::{Addresses, Cluster, ClusterBuilder};
pub use error::Error;
pub use install::PgInstall;
pub use libpq::Libpq;
pub use name_server::NameServer;
pub use patroni::{Partition, PatroniBuilder, PatroniCluster, PatroniPrograms, RestAnswer};
pub use proxy::{Moment, Proxy, Trigger};
pub use repmgr::Repmgr;
pub use tls::ServerTls;
