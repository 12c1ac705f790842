//! Opening a connection to a host: the one way for pools, probes and sources of hosts.

mod answers;
mod auth_watch;
mod carry;
mod connector;
mod encryption;
mod login;

use std::{error::Error as StdError, io, sync::Arc};

pub use answers::Answers;
use auth_watch::Watched;
pub(crate) use carry::carry;
use connector::Secured;
pub use connector::TlsConnector;
pub(crate) use login::Login;
use tokio_postgres::{
    Client, Connection, Socket,
    error::{DbError, SqlState},
};

use crate::{
    config::Config,
    credentials::{AuthRefused, CredentialError},
    topology::HostAddr,
    traces::rows,
};

/// What moves the bytes of a connection; whoever opened it drives it.
pub(crate) type Wire = Connection<Socket, Watched<Secured>>;

/// Opens a connection to one host, as the configuration says; `name` is what `pg_stat_activity`
/// shows in place of the application's, of leadpool's own connections. Those without one are the
/// application's, and have its session settings. Without a deadline: the caller has one.
///
/// The provider of credentials is asked first, and once more when the host refuses what it said.
/// What the server answers is noted in `answers`, if anybody wants to know.
///
/// # Cancel safety
///
/// Dropping the future closes what it has opened.
pub(crate) async fn open(
    config: &Config,
    host: &HostAddr,
    name: Option<&str>,
    answers: Option<&Arc<Answers>>,
) -> Result<(Client, Wire), OpenError> {
    let login = Login::ask(config, host, None).await?;
    match open_as(config, host, name, &login, answers).await {
        Err(refusal) if refusal.is_rejection() && login.is_provided() => {
            tracing::event!(
                name: rows::CREDENTIALS_REFUSED.name,
                target: rows::CREDENTIALS_REFUSED.target,
                rows::CREDENTIALS_REFUSED.level,
                {
                    db.client.connection.pool.name = config.pool_name(),
                    server.address = host.name(),
                    server.port = host.port(),
                    db.response.status_code = refusal.code(),
                },
                "the credentials were refused: asking for others"
            );
            let other = Login::ask(config, host, Some(login.clone())).await?;
            match other == login {
                true => Err(refusal),
                false => open_as(config, host, name, &other, answers).await,
            }
        }
        opened => opened,
    }
}

/// The same with credentials at hand.
///
/// # Cancel safety
///
/// As [`open`].
pub(crate) async fn open_as(
    config: &Config,
    host: &HostAddr,
    name: Option<&str>,
    login: &Login,
    answers: Option<&Arc<Answers>>,
) -> Result<(Client, Wire), OpenError> {
    let mut driver = config.driver_config(host);
    match name {
        Some(name) => {
            driver.application_name(name);
        }
        None => config.prepare_sessions(&mut driver),
    }
    login.fill_in(&mut driver);
    let connected = encryption::connect(config, host, driver, answers).await;
    connected.map_err(|error| OpenError::of(error, host))
}

/// Why no connection was opened.
#[derive(Debug, thiserror::Error)]
pub(crate) enum OpenError {
    /// The driver's own error: the network's, or the server's; or a
    /// [`TlsError`](crate::tls::TlsError) in it.
    #[error(transparent)]
    Driver(tokio_postgres::Error),
    /// There is nothing to log in with.
    #[error(transparent)]
    Credentials(#[from] CredentialError),
    /// The server asked in a way that is not allowed.
    #[error(transparent)]
    Auth(AuthRefused),
}

impl OpenError {
    fn of(error: tokio_postgres::Error, host: &HostAddr) -> Self {
        let inner = error
            .source()
            .and_then(|source| source.downcast_ref::<io::Error>())
            .and_then(io::Error::get_ref);
        match inner.and_then(|inner| inner.downcast_ref::<AuthRefused>()) {
            Some(refused) => Self::Auth(refused.clone()),
            None if lacks_password(&error) => Self::Credentials(CredentialError::missing(host)),
            None => Self::Driver(error),
        }
    }

    /// The SQLSTATE, if the server gave one.
    fn code(&self) -> Option<&str> {
        match self {
            Self::Driver(error) => error.code().map(SqlState::code),
            Self::Credentials(_) | Self::Auth(_) => None,
        }
    }

    /// Whether the host refused the role's password or token: others may be better.
    pub(crate) fn is_rejection(&self) -> bool {
        match self {
            Self::Driver(error) => error.as_db_error().is_some_and(is_rejection),
            Self::Credentials(_) | Self::Auth(_) => false,
        }
    }
}

/// The driver has no kind of its own for it.
fn lacks_password(error: &tokio_postgres::Error) -> bool {
    error
        .source()
        .is_some_and(|source| source.to_string() == "password missing")
}

/// 28P01, or 28000 of a method that checks what was sent: PAM, with which RDS checks its tokens,
/// LDAP and the like. A role that does not exist, or that `pg_hba.conf` does not let in, has 28000
/// too, but comes from elsewhere in the server (the text is translated). A proxy says only the text.
pub(crate) fn is_rejection_of(code: &str, routine: Option<&str>, message: &str) -> bool {
    match (code, routine) {
        ("28P01", _) | ("28000", Some("auth_failed")) => true,
        ("28000", None) => message.contains("authentication failed"),
        _ => false,
    }
}

fn is_rejection(error: &DbError) -> bool {
    is_rejection_of(error.code().code(), error.routine(), error.message())
}

#[cfg(test)]
mod tests;
