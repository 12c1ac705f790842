//! TLS towards the servers: setting it, and checking it together.

use std::{path::PathBuf, sync::Arc};

use tokio_postgres::config::ChannelBinding;

use super::{
    ConfigBuilder, ConfigError, RootCert, SslCertMode, SslMode, SslNegotiation, TlsSettings,
    TlsVersion,
};
use crate::tls::{FileProblem, Files, Plan};

impl ConfigBuilder {
    /// Sets [`TlsSettings::ssl_mode`].
    pub fn ssl_mode(mut self, mode: SslMode) -> Self {
        self.tls.ssl_mode = Some(mode);
        self
    }

    /// Sets [`TlsSettings::ssl_root_cert`]: a file, or `system`.
    pub fn ssl_root_cert(mut self, root_cert: impl Into<RootCert>) -> Self {
        self.tls.ssl_root_cert = Some(root_cert.into());
        self
    }

    /// Sets [`TlsSettings::ssl_cert`].
    pub fn ssl_cert(mut self, path: impl Into<PathBuf>) -> Self {
        self.tls.ssl_cert = Some(path.into());
        self
    }

    /// Sets [`TlsSettings::ssl_key`].
    pub fn ssl_key(mut self, path: impl Into<PathBuf>) -> Self {
        self.tls.ssl_key = Some(path.into());
        self
    }

    /// Sets [`TlsSettings::ssl_crl`].
    pub fn ssl_crl(mut self, path: impl Into<PathBuf>) -> Self {
        self.tls.ssl_crl = Some(path.into());
        self
    }

    /// Sets [`TlsSettings::ssl_crl_dir`].
    pub fn ssl_crl_dir(mut self, path: impl Into<PathBuf>) -> Self {
        self.tls.ssl_crl_dir = Some(path.into());
        self
    }

    /// Sets [`TlsSettings::ssl_sni`].
    pub fn ssl_sni(mut self, sni: bool) -> Self {
        self.tls.ssl_sni = sni;
        self
    }

    /// Sets [`TlsSettings::ssl_negotiation`].
    pub fn ssl_negotiation(mut self, negotiation: SslNegotiation) -> Self {
        self.tls.ssl_negotiation = negotiation;
        self
    }

    /// Sets [`TlsSettings::ssl_cert_mode`].
    pub fn ssl_cert_mode(mut self, mode: SslCertMode) -> Self {
        self.tls.ssl_cert_mode = mode;
        self
    }

    /// Sets [`TlsSettings::ssl_min_protocol_version`].
    pub fn ssl_min_protocol_version(mut self, version: TlsVersion) -> Self {
        self.tls.ssl_min_protocol_version = version;
        self
    }

    /// Sets [`TlsSettings::ssl_max_protocol_version`].
    pub fn ssl_max_protocol_version(mut self, version: TlsVersion) -> Self {
        self.tls.ssl_max_protocol_version = Some(version);
        self
    }

    /// Whether the login is tied to the TLS connection under it, so that nobody in between can pass
    /// it on: libpq's `channel_binding`. `Require` wants TLS, whatever the mode, and SCRAM. Default:
    /// `Prefer`, as libpq: with both it is done.
    pub fn channel_binding(mut self, binding: ChannelBinding) -> Self {
        self.login.channel_binding = Some(binding);
        self
    }

    /// One of libpq's keys.
    pub(super) fn read_ssl_option(&mut self, key: &str, value: &str) -> Result<(), ConfigError> {
        fn word<T: std::str::FromStr>(key: &str, value: &str) -> Result<T, ConfigError>
        where
            T::Err: std::fmt::Display,
        {
            value
                .parse()
                .map_err(|error| ConfigError::invalid(key, format!("`{value}`: {error}")))
        }
        // libpq takes an empty value for none.
        if value.is_empty() {
            return Ok(());
        }
        let tls = &mut self.tls;
        match key {
            "sslmode" => tls.ssl_mode = Some(word(key, value)?),
            "sslrootcert" => tls.ssl_root_cert = Some(value.into()),
            "sslcert" => tls.ssl_cert = Some(value.into()),
            "sslkey" => tls.ssl_key = Some(value.into()),
            "sslcrl" => tls.ssl_crl = Some(value.into()),
            "sslcrldir" => tls.ssl_crl_dir = Some(value.into()),
            "sslnegotiation" => tls.ssl_negotiation = word(key, value)?,
            "sslcertmode" => tls.ssl_cert_mode = word(key, value)?,
            "ssl_min_protocol_version" => tls.ssl_min_protocol_version = word(key, value)?,
            "ssl_max_protocol_version" => tls.ssl_max_protocol_version = Some(word(key, value)?),
            "sslsni" => {
                tls.ssl_sni = match value {
                    "0" => false,
                    "1" => true,
                    _ => return Err(ConfigError::invalid(key, "expected 0 or 1")),
                }
            }
            // `keys::check` lets nothing else through.
            _ => {}
        }
        Ok(())
    }
}

/// Checks the settings and reads the files, which are `None` where TLS is switched off, or no
/// socket of the network used.
pub(super) fn files(
    tls: &TlsSettings,
    binding: Option<ChannelBinding>,
    has_network: bool,
) -> Result<Option<Arc<Files>>, ConfigError> {
    let mode = tls.mode();
    let contradiction = |key, with, reason| Err(ConfigError::Contradiction { key, with, reason });
    if tls.ssl_root_cert == Some(RootCert::System) && mode < SslMode::VerifyFull {
        return contradiction(
            "sslmode",
            "sslrootcert",
            "anybody has a certificate of those that the system trusts; say verify-full",
        );
    }
    if tls.ssl_negotiation == SslNegotiation::Direct && mode < SslMode::Require {
        return contradiction(
            "sslnegotiation",
            "sslmode",
            "direct leaves no way without TLS; say require or more",
        );
    }
    if tls
        .ssl_max_protocol_version
        .is_some_and(|newest| newest < tls.ssl_min_protocol_version)
    {
        return contradiction(
            "ssl_min_protocol_version",
            "ssl_max_protocol_version",
            "the first can't be greater than the second",
        );
    }
    if tls.ssl_key.is_some() && tls.ssl_cert.is_none() && tls.ssl_cert_mode != SslCertMode::Disable
    {
        return contradiction(
            "sslkey",
            "sslcert",
            "a key is of no use without its certificate",
        );
    }
    if mode == SslMode::Disable {
        if binding == Some(ChannelBinding::Require) {
            return contradiction(
                "channel_binding",
                "sslmode",
                "it binds to TLS, and disable leaves none",
            );
        }
        return Ok(None);
    }
    if !has_network {
        return Ok(None);
    }
    #[allow(deprecated, reason = "until Rust 1.87; what was wrong was of Windows")]
    let home = std::env::home_dir();
    Plan::new(tls, home.as_deref())
        .and_then(Files::new)
        .map(|files| Some(Arc::new(files)))
        .map_err(|FileProblem { key, problem }| ConfigError::invalid(key, problem))
}
