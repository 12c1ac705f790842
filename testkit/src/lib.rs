#![doc = include_str!("../README.md")]

mod auto_failover;
mod cluster;
mod daemon;
mod error;
mod faults;
mod guardian;
mod host;
mod install;
mod name_server;
mod process;
mod programs;
mod proxy;
mod repair;
mod repmgr;
mod template;

pub use auto_failover::{AutoFailover, AutoFailoverBuilder};
pub use cluster::{Addresses, Cluster, ClusterBuilder};
pub use error::Error;
pub use install::PgInstall;
pub use name_server::NameServer;
pub use proxy::{Moment, Proxy, Trigger};
pub use repmgr::Repmgr;
