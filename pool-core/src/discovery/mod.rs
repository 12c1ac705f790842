//! Where hosts come from.
//!
//! A discovery names hosts, and may hint which of them is the primary. It never makes one: that is
//! decided by the hosts' own answers alone, so a discovery that fails or lies costs probes, not
//! correctness. What it no longer names leaves the cluster, but for the writer, and not before one
//! of the hosts that it does name has shown itself to be of the cluster.
//!
//! Credentials go only to the hosts of the configuration, to those that
//! [`allowed_hosts`](crate::config::ConfigBuilder::allowed_hosts) admits, and to those that the
//! source itself vouches for by its own configuration (a host pattern, a name).
//!
//! Which source for which cluster: see [the manual](crate::manual::clusters).

mod auto;
mod auto_failover;
#[cfg(feature = "dns")]
pub mod dns;
mod error;
mod fixed;
#[cfg(feature = "patroni")]
pub mod patroni;
#[cfg(any(feature = "patroni", feature = "web"))]
mod patroni_call;
mod rds;
mod replicas;
mod repmgr;
mod view;

use std::{pin::Pin, sync::Arc, time::Duration};

pub use auto::Auto;
pub use auto_failover::AutoFailover;
pub use error::DiscoveryError;
pub use fixed::Fixed;
#[cfg(any(feature = "patroni", feature = "web"))]
pub(crate) use patroni_call::is_patroni_call;
pub use rds::Rds;
pub use replicas::{Replica, Replicas};
pub use repmgr::Repmgr;
pub(crate) use view::Sessions;
pub use view::{AskError, Reply, View};

pub use crate::topology::{Found, FoundHost};
use crate::{error::BoxError, topology::HostAddr};

/// What `pg_stat_activity` shows of connections that ask for hosts.
const APPLICATION_NAME: &str = "leadpool discovery";

/// A source of hosts.
///
/// ```
/// use leadpool::{HostAddr, discovery::{Discovering, Discovery, View}};
///
/// /// Reads the hosts from a file, one `name:port` a line.
/// #[derive(Debug)]
/// struct HostsFile(std::path::PathBuf);
///
/// impl Discovery for HostsFile {
///     fn name(&self) -> &str {
///         "hosts file"
///     }
///
///     fn discover<'a>(&'a self, _: &'a View) -> Discovering<'a> {
///         Box::pin(async {
///             let text = std::fs::read_to_string(&self.0)?;
///             let parse = |line: &str| {
///                 let (name, port) = line.rsplit_once(':').ok_or("expected name:port")?;
///                 Ok(HostAddr::new(name, port.parse()?))
///             };
///             text.lines().map(parse).collect()
///         })
///     }
/// }
/// ```
pub trait Discovery: std::fmt::Debug + Send + Sync + 'static {
    /// What the source is called in events, in one or two words.
    fn name(&self) -> &str;

    /// Asks for all hosts of the cluster, best first. `view` is what is known of the cluster by
    /// now, and a way to ask its hosts.
    ///
    /// The monitor bounds the wait: the future is dropped when it takes longer than the connect
    /// timeout. An error, or an answer that names nobody, leaves the known hosts as they are.
    fn discover<'a>(&'a self, view: &'a View) -> Discovering<'a>;

    /// How often to ask again; `None`: once is enough.
    fn refresh_interval(&self) -> Option<Duration> {
        Some(Duration::from_secs(30))
    }

    /// How often to ask again while a writer is missing, and for 30 s after it has changed.
    fn failover_interval(&self) -> Duration {
        Duration::from_secs(1)
    }

    /// Whether the source's own configuration says that this host may be given credentials.
    fn vouches_for(&self, _host: &HostAddr) -> bool {
        false
    }
}

/// The future of [`Discovery::discover`].
pub type Discovering<'a> = Pin<Box<dyn Future<Output = Result<Found, BoxError>> + Send + 'a>>;

impl Discovery for Arc<dyn Discovery> {
    fn name(&self) -> &str {
        (**self).name()
    }

    fn discover<'a>(&'a self, view: &'a View) -> Discovering<'a> {
        (**self).discover(view)
    }

    fn refresh_interval(&self) -> Option<Duration> {
        (**self).refresh_interval()
    }

    fn failover_interval(&self) -> Duration {
        (**self).failover_interval()
    }

    fn vouches_for(&self, host: &HostAddr) -> bool {
        (**self).vouches_for(host)
    }
}
