//! How connections log in, beyond the role and its password.

use std::{net::IpAddr, path::PathBuf, sync::Arc};

use super::{Config, ConfigBuilder, ConfigError, builder::Login};
use crate::{
    credentials::{CredentialProvider, LikeLibpq, PassFile, RequireAuth},
    topology::HostAddr,
};

/// Where credentials come from, and how they may be asked for.
#[derive(Clone, Debug, Default)]
pub(super) struct Access {
    pub(super) provider: Option<Arc<dyn CredentialProvider>>,
    pub(super) passfile: Option<PathBuf>,
    pub(super) require_auth: Option<RequireAuth>,
}

impl ConfigBuilder {
    /// Where the role and the password of each new connection come from. Default: the password of
    /// the connection string or of [`password`](Self::password); without one, where libpq looks
    /// ([`PassFile`]).
    ///
    /// Contradicts a password, and a [`passfile`](Self::passfile): keep one of them.
    pub fn credentials(mut self, provider: impl CredentialProvider) -> Self {
        self.access.provider = Some(Arc::new(provider));
        self
    }

    /// The password file to use in place of `~/.pgpass`, if there is no password: see
    /// [`PassFile`].
    pub fn passfile(mut self, path: impl Into<PathBuf>) -> Self {
        self.access.passfile = Some(path.into());
        self
    }

    /// Which ways to log in are allowed, for instance `scram-sha-256` or `!password,!md5`: see
    /// [`RequireAuth`]. A server that asks in another way is told nothing, and the checkout fails
    /// at once. Default: all.
    ///
    /// Without it a server, or whoever poses as it, may ask for the password as it is.
    ///
    /// Two things do not work with it: Unix sockets, and without TLS the driver's own
    /// [`CancelToken::cancel_query`](tokio_postgres::CancelToken::cancel_query).
    pub fn require_auth(mut self, methods: &str) -> Self {
        if let Err(mistake) = self.access.read_require_auth(methods) {
            self.mistake.get_or_insert(mistake);
        }
        self
    }
}

impl Access {
    pub(super) fn read_require_auth(&mut self, methods: &str) -> Result<(), ConfigError> {
        // To libpq an empty list is none at all.
        self.require_auth = match methods {
            "" => None,
            methods => Some(
                methods
                    .parse()
                    .map_err(|error| ConfigError::invalid("require_auth", format!("{error}")))?,
            ),
        };
        Ok(())
    }

    /// Checks it against the rest, and fills in what libpq would look at.
    pub(super) fn complete(
        mut self,
        login: &Login,
        hosts: &[(HostAddr, Option<IpAddr>)],
    ) -> Result<Self, ConfigError> {
        let reason = "the provider says what the password is";
        let has_password = login.password.is_some();
        let contradiction = |key| ConfigError::Contradiction {
            key,
            with: "credentials",
            reason,
        };
        if self.provider.is_some() && has_password {
            return Err(contradiction("password"));
        }
        if self.provider.is_some() && self.passfile.is_some() {
            return Err(contradiction("passfile"));
        }
        let socket = hosts.iter().find(|(host, _)| host.name().starts_with('/'));
        if let (Some(_), Some((host, _))) = (&self.require_auth, socket) {
            return Err(ConfigError::invalid(
                "require_auth",
                format!(
                    "it can't be enforced on the Unix socket in {}: name the host, or leave it out",
                    host.name()
                ),
            ));
        }
        // libpq takes an empty password for none, too.
        let is_known = login
            .password
            .as_ref()
            .is_some_and(|password| !password.expose().is_empty());
        if self.provider.is_none() && !is_known {
            self.provider = Some(match &self.passfile {
                Some(path) if !path.as_os_str().is_empty() => Arc::new(PassFile::new(path)),
                _ => Arc::new(LikeLibpq::default()),
            });
        }
        Ok(self)
    }
}

impl Config {
    /// Where credentials come from; `None`: from the configuration itself.
    pub(crate) fn provider(&self) -> Option<&dyn CredentialProvider> {
        self.access.provider.as_deref()
    }

    /// Which ways to log in are allowed; `None`: all.
    pub(crate) fn require_auth_methods(&self) -> Option<&RequireAuth> {
        self.access.require_auth.as_ref()
    }

    /// The role, if the configuration names one.
    pub(crate) fn user(&self) -> Option<&str> {
        self.login.user.as_deref()
    }

    /// The database, if the configuration names one.
    pub(crate) fn dbname(&self) -> Option<&str> {
        self.login.dbname.as_deref()
    }
}
