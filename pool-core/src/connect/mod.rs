//! Opening a connection to a host: the one way for pools, probes and sources of hosts.

mod carry;
mod connector;
mod encryption;

use tokio_postgres::{Client, Connection, Socket};

pub use connector::TlsConnector;
use connector::TlsStream;

use crate::{config::Config, topology::HostAddr};

/// What moves the bytes of a connection; whoever opened it drives it.
pub(crate) type Wire = Connection<Socket, TlsStream>;

/// Opens a connection to one host, as the configuration says; `name` is what `pg_stat_activity`
/// shows in place of the application's. Without a deadline: the caller has one.
///
/// # Cancel safety
///
/// Dropping the future closes what it has opened.
pub(crate) async fn open(
    config: &Config,
    host: &HostAddr,
    name: Option<&str>,
) -> Result<(Client, Wire), OpenError> {
    let mut driver = config.driver_config(host);
    if let Some(name) = name {
        driver.application_name(name);
    }
    Ok(encryption::connect(config, host, driver).await?)
}

/// Why no connection was opened.
#[derive(Debug, thiserror::Error)]
pub(crate) enum OpenError {
    /// The driver's own error: the network's, or the server's; or a
    /// [`TlsError`](crate::tls::TlsError) in it.
    #[error(transparent)]
    Driver(#[from] tokio_postgres::Error),
}
