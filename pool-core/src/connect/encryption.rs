//! With TLS or without: what `sslmode` says, and what is tried next.
//!
//! [PostgreSQL documentation, section 34.19.3](https://www.postgresql.org/docs/current/libpq-ssl.html#LIBPQ-SSL-PROTECTION).

use std::{error::Error as _, io, sync::Arc};

use tokio_postgres::{
    Client, Config as Driver, Error,
    config::{SslMode as DriverMode, SslNegotiation},
};

use super::{Answers, Wire, carry::carry, connector, connector::TlsConnector};
use crate::{
    config::{Config, SslMode},
    error::tls_error,
    tls::TlsError,
    topology::HostAddr,
};

type Opened = Result<(Client, Wire), Error>;

/// Opens a connection, encrypted as the configuration says.
///
/// Where both ways are allowed, the other one is tried after the server's refusal of the first
/// (28000: `pg_hba.conf` has no entry that fits), and after a handshake that failed. libpq tries it
/// after any error of the server; a wrong password is not sent twice here.
///
/// Where `answers` are noted and TLS is preferred, a host without TLS is connected to twice.
pub(super) async fn connect(
    config: &Config,
    host: &HostAddr,
    driver: Driver,
    answers: Option<&Arc<Answers>>,
) -> Opened {
    // The driver asks nobody for a stream over a Unix socket.
    let answers = answers.filter(|_| !host.is_socket());
    let Some(files) = config.tls_files().filter(|_| !host.is_socket()) else {
        let connector = TlsConnector::new(None, config).noting(answers);
        return plain(driver, &connector).await;
    };
    files.refresh().await;
    let connector = TlsConnector::new(Some(files), config).noting(answers);
    match config.ssl_mode() {
        SslMode::Disable => plain(driver, &connector).await,
        mode if config.requires_channel_binding() && mode < SslMode::Require => {
            encrypted(driver, &connector, "channel_binding=require").await
        }
        SslMode::Allow => match plain(driver.clone(), &connector).await {
            Err(first) if is_no_entry(&first) => {
                match encrypted(driver, &connector, "pg_hba.conf").await {
                    Err(_) if !connector.began() => Err(first),
                    second => second,
                }
            }
            opened => opened,
        },
        SslMode::Prefer => match preferring(driver.clone(), &connector).await {
            Err(first) if connector.began() && (is_no_entry(&first) || is_of_tls(&first)) => {
                match plain(driver, &connector).await {
                    // There is no way without: why not with it is what counts.
                    Err(second) if is_no_entry(&second) => Err(first),
                    second => second,
                }
            }
            opened => opened,
        },
        mode => encrypted(driver, &connector, &format!("`sslmode={mode}`")).await,
    }
}

async fn plain(mut driver: Driver, connector: &TlsConnector) -> Opened {
    if let Some(watching) = connector.watching() {
        // So the driver asks at once for what lies over the socket, and sends nothing of TLS.
        driver.ssl_mode(DriverMode::Require);
        driver.ssl_negotiation(SslNegotiation::Direct);
        return driver.connect(watching).await;
    }
    driver.ssl_mode(DriverMode::Disable);
    driver.connect(connector.clone()).await
}

async fn preferring(mut driver: Driver, connector: &TlsConnector) -> Opened {
    if connector.watching().is_some() {
        // The driver would go on over the bare socket, where nothing can be read along.
        return match encrypted(driver.clone(), connector, "require_auth").await {
            Err(_) if !connector.began() => plain(driver, connector).await,
            opened => opened,
        };
    }
    driver.ssl_mode(DriverMode::Prefer);
    driver.connect(connector.clone()).await
}

/// TLS or nothing, which `demand` says.
async fn encrypted(mut driver: Driver, connector: &TlsConnector, demand: &str) -> Opened {
    driver.ssl_mode(DriverMode::Require);
    let error = match driver.connect(connector.clone()).await {
        Ok(opened) => return Ok(opened),
        Err(error) => error,
    };
    // The driver has no more than a text for it.
    let is_refusal = error
        .source()
        .is_some_and(|source| source.to_string() == "server does not support TLS");
    let told = match is_refusal && !connector.began() {
        true => Some(TlsError::NotOffered {
            demand: demand.to_owned(),
        }),
        false => error
            .source()
            .and_then(|source| connector::alert(source.downcast_ref::<io::Error>()?)),
    };
    match told {
        Some(told) => Err(carry(told).await),
        None => Err(error),
    }
}

/// Whether `pg_hba.conf` lets nobody in this way, or a client certificate is missing.
fn is_no_entry(error: &Error) -> bool {
    error.code().is_some_and(|code| code.code() == "28000")
}

/// Whether the handshake failed, or was ended by an alert right after.
fn is_of_tls(error: &Error) -> bool {
    let in_handshake = error.to_string() == "error performing TLS handshake";
    let by_alert = error
        .source()
        .and_then(|source| connector::alert(source.downcast_ref::<io::Error>()?));
    in_handshake || tls_error(error).is_some() || by_alert.is_some()
}
