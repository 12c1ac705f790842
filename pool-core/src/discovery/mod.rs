//! Where hosts come from.
//!
//! A discovery names hosts; it never says who is primary. That is decided by the hosts' own
//! answers alone, so a discovery that fails or lies costs probes, not correctness.

mod fixed;

use std::{pin::Pin, time::Duration};

pub use fixed::Fixed;

use crate::{error::BoxError, topology::HostAddr};

/// A source of hosts.
///
/// ```
/// use leadpool::{HostAddr, discovery::{Discovering, Discovery}};
///
/// /// Reads the hosts from a file, one `name:port` a line.
/// #[derive(Debug)]
/// struct HostsFile(std::path::PathBuf);
///
/// impl Discovery for HostsFile {
///     fn discover(&self) -> Discovering<'_> {
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
    /// Asks for all hosts of the cluster, best first.
    ///
    /// The monitor bounds the wait: the future is dropped when it takes longer than the connect
    /// timeout. An error or an empty answer leaves the known hosts as they are.
    fn discover(&self) -> Discovering<'_>;

    /// How often to ask again; `None`: once is enough.
    fn refresh_interval(&self) -> Option<Duration> {
        Some(Duration::from_secs(30))
    }
}

/// The future of [`Discovery::discover`].
pub type Discovering<'a> =
    Pin<Box<dyn Future<Output = Result<Vec<HostAddr>, BoxError>> + Send + 'a>>;

impl Discovery for std::sync::Arc<dyn Discovery> {
    fn discover(&self) -> Discovering<'_> {
        (**self).discover()
    }

    fn refresh_interval(&self) -> Option<Duration> {
        (**self).refresh_interval()
    }
}
