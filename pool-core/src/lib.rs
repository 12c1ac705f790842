#![doc = include_str!("../README.md")]

// Before `native`, which uses its macro.
#[macro_use]
pub mod adapter;
pub mod config;
mod connect;
pub mod consistency;
pub mod credentials;
pub mod discovery;
pub mod error;
pub mod failover;
pub mod manual;
mod monitor;
mod native;
pub mod observe;
pub mod outcome;
mod pool;
pub mod routing;
mod session;
pub mod shutdown;
mod tls;
pub mod topology;
mod traces;
mod tx;
#[cfg(feature = "web")]
pub mod web;

pub use config::Config;
pub use connect::TlsConnector;
pub use deadpool_postgres::{self, tokio_postgres};
pub use error::Error;
pub use failover::Event;
pub use monitor::Cluster;
pub use native::{
    CheckoutOptions, Gap, KeptSession, Listener, ListenerEvent, Notification, Pool, PoolBuilder,
    Tx, TxBuilder,
};
pub use observe::{Events, InDoubtCounts, RetryCounts, TransactionCounts};
pub use pool::{Drained, PauseGuard, PoolCounts, Status, SubPoolStatus};
pub use topology::{HostAddr, Target};
#[cfg(feature = "backoff")]
pub use tx::backoff_pauses;
pub use tx::{Attempt, IsolationLevel, Replay, Resolved, Retry};
