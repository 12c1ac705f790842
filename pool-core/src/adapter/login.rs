//! How hosts are logged in to: what an adapter translates for its own driver.

use std::path::{Path, PathBuf};

use crate::{
    config::{Config, SslCertMode, SslMode, SslNegotiation, TlsSettings},
    connect::{self, is_rejection_of},
    credentials::CredentialError,
    tls::Plan,
    topology::HostAddr,
};

/// How a host is logged in to, in the words of tokio-postgres.
///
/// Two are equal if the credentials are.
#[derive(Clone, Debug)]
pub struct Login {
    driver: tokio_postgres::Config,
    login: connect::Login,
}

impl Login {
    /// As the configuration itself says, without asking its provider of credentials.
    #[must_use]
    pub fn configured(config: &Config, host: &HostAddr) -> Self {
        Self::new(config, host, connect::Login::default())
    }

    /// Asks the configuration's provider of credentials, for most of the connect timeout at most:
    /// to be done for each new connection. With `rejected`, which the host has just refused, it is
    /// asked for others.
    ///
    /// # Errors
    ///
    /// That of the provider, or that it gave no answer in time.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future drops the provider's.
    pub async fn ask(
        config: &Config,
        host: &HostAddr,
        rejected: Option<&Self>,
    ) -> Result<Self, CredentialError> {
        let rejected = rejected.map(|rejected| rejected.login.clone());
        let login = connect::Login::ask(config, host, rejected).await?;
        Ok(Self::new(config, host, login))
    }

    fn new(config: &Config, host: &HostAddr, login: connect::Login) -> Self {
        let mut driver = config.driver_config(host);
        config.prepare_sessions(&mut driver);
        login.fill_in(&mut driver);
        Self { driver, login }
    }

    /// Host, role, password, database, settings of the session, and those of TCP.
    #[must_use]
    pub fn driver(&self) -> &tokio_postgres::Config {
        &self.driver
    }

    /// Whether there is a provider that could be asked for others.
    #[must_use]
    pub fn is_provided(&self) -> bool {
        self.login.is_provided()
    }
}

impl PartialEq for Login {
    fn eq(&self, other: &Self) -> bool {
        self.login == other.login
    }
}

/// Whether a server's refusal is about the password or token, so that others may be better: by the
/// SQLSTATE, the function of the server that raised it, and the message.
#[must_use]
pub fn is_rejection(code: &str, routine: Option<&str>, message: &str) -> bool {
    is_rejection_of(code, routine, message)
}

/// How connections are encrypted, with libpq's default files put in.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Encryption {
    /// What a server must prove. `require` with a file of whom to trust is `verify-ca` here, as in
    /// libpq.
    pub mode: SslMode,
    /// Whom to trust; `None`: whom the driver trusts by itself.
    pub root_cert: Option<PathBuf>,
    /// The client certificate, and its key.
    pub client: Option<(PathBuf, PathBuf)>,
}

/// How connections are encrypted; `None` if nothing was said, and nothing found.
#[must_use]
pub fn encryption(config: &Config) -> Option<Encryption> {
    let settings = config.tls();
    let plan = config.tls_files().map(|files| files.plan());
    let root_cert = plan.and_then(|plan| plan.root_file().map(Path::to_owned));
    let client = plan.and_then(Plan::client_files);
    if *settings == TlsSettings::default() && root_cert.is_none() && client.is_none() {
        return None;
    }
    let mode = match config.ssl_mode() {
        SslMode::Require if root_cert.is_some() => SslMode::VerifyCa,
        mode => mode,
    };
    Some(Encryption {
        mode,
        root_cert,
        client,
    })
}

/// The settings that were made and that a driver has to keep to by itself, by libpq's keys, with
/// their values in libpq's words: an adapter whose driver can't has to refuse them, since each keeps
/// somebody from something.
#[must_use]
pub fn demands(config: &Config) -> Vec<(&'static str, String)> {
    let tls = config.tls();
    let usual = TlsSettings::default();
    let lists = config.tls_files().map(|files| files.plan().lists());
    let (list, folder) = lists.unwrap_or_default();
    let path = |path: Option<&Path>| path.map(|path| path.to_string_lossy().into_owned());
    let said = |is_said: bool, value: &str| is_said.then(|| value.to_owned());
    let all = [
        (
            "require_auth",
            config.require_auth_methods().map(ToString::to_string),
        ),
        (
            "channel_binding",
            said(config.requires_channel_binding(), "require"),
        ),
        ("sslcrl", path(list)),
        ("sslcrldir", path(folder)),
        (
            "sslsni",
            said(
                tls.ssl_sni != usual.ssl_sni,
                if tls.ssl_sni { "1" } else { "0" },
            ),
        ),
        (
            "sslnegotiation",
            said(
                tls.ssl_negotiation == SslNegotiation::Direct,
                tls.ssl_negotiation.as_str(),
            ),
        ),
        (
            "sslcertmode",
            said(
                tls.ssl_cert_mode == SslCertMode::Require,
                tls.ssl_cert_mode.as_str(),
            ),
        ),
        (
            "ssl_min_protocol_version",
            said(
                tls.ssl_min_protocol_version != usual.ssl_min_protocol_version,
                tls.ssl_min_protocol_version.as_str(),
            ),
        ),
        (
            "ssl_max_protocol_version",
            tls.ssl_max_protocol_version
                .map(|version| version.as_str().to_owned()),
        ),
    ];
    let made = all.into_iter();
    made.filter_map(|(key, value)| Some((key, value?)))
        .collect()
}

/// Whether something is to be done on each new connection that can only be done through
/// tokio-postgres: [`on_connect`](crate::config::ConfigBuilder::on_connect).
#[must_use]
pub fn has_connect_hooks(config: &Config) -> bool {
    !config.on_connect().is_empty()
}

/// What to send to a used connection before it is handed out again, after what ends a transaction
/// that was left open; empty if the question alone matters. `None`: nothing.
#[must_use]
pub fn recycling_sql(config: &Config) -> Option<&str> {
    config.session().recycling.sql()
}
