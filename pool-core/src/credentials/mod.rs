//! Who logs in, with which password: asked once for each new connection.
//!
//! A [`CredentialProvider`] is asked whenever a connection is opened: for the pool, for the
//! monitor's probes, and by a discovery. So a password that changes needs no restart, and breaks no
//! connection that is open. When a host refuses a password, the provider is asked once more, since
//! it may have changed in between; if it has nothing else, the refusal stands.
//!
//! Without a provider the password is that of the connection string or the builder; without that,
//! it comes from where libpq looks: see [`PassFile`].
//!
//! Which one for what: see [the manual](crate::manual::credentials).

#[cfg(feature = "aws-iam")]
mod aws_iam;
mod environment;
mod error;
mod file;
mod from_fn;
mod libpq;
mod pass_file;
mod require_auth;
mod secret;

use std::{error::Error as StdError, fmt, pin::Pin, sync::Arc};

#[cfg(feature = "aws-iam")]
pub use aws_iam::AwsIam;
pub use environment::Environment;
pub use error::CredentialError;
pub use file::PasswordFile;
pub use from_fn::{FromFn, from_fn};
pub(crate) use libpq::LikeLibpq;
pub use pass_file::PassFile;
pub use require_auth::{AuthMethod, AuthRefused, InvalidRequireAuth, RequireAuth};
pub use secret::Secret;

use crate::topology::HostAddr;

/// A source of user names and passwords.
///
/// ```
/// use leadpool::credentials::{CredentialProvider, CredentialRequest, Credentials, Providing};
///
/// /// Another role for each host.
/// #[derive(Debug)]
/// struct RolePerHost;
///
/// impl CredentialProvider for RolePerHost {
///     fn name(&self) -> &str {
///         "role per host"
///     }
///
///     fn provide<'a>(&'a self, request: &'a CredentialRequest) -> Providing<'a> {
///         Box::pin(async {
///             let path = format!("/run/secrets/{}", request.host.name());
///             let password = std::fs::read_to_string(path)?;
///             Ok(Credentials::password(password.trim_end()))
///         })
///     }
/// }
///
/// let config = leadpool::Config::builder("postgres://app@db1,db2/shop")
///     .credentials(RolePerHost)
///     .build()?;
/// # Ok::<(), leadpool::config::ConfigError>(())
/// ```
pub trait CredentialProvider: fmt::Debug + Send + Sync + 'static {
    /// What the source is called in errors, in one or two words.
    fn name(&self) -> &str;

    /// Says how to log in on one host. Asked once for each new connection, and once more when the
    /// host refuses what came of it; then [`CredentialRequest::rejected`] says what was refused.
    ///
    /// Whoever opens the connection bounds the wait, and drops the future when its time is up: a
    /// provider that hangs delays nobody beyond the connect timeout. Several may be under way at
    /// the same time. What is fetched over the network is best kept until it expires.
    ///
    /// # Errors
    ///
    /// A [`CredentialError`] says whether asking again may help; any other error counts as one
    /// that passes, so a checkout goes on asking until its deadline. Errors are shown to the
    /// application and in logs: they must not hold the secret.
    fn provide<'a>(&'a self, request: &'a CredentialRequest) -> Providing<'a>;

    /// Whether what it provides may only be sent over TLS. Then a configuration with which it
    /// could go in the clear is refused.
    fn needs_tls(&self) -> bool {
        false
    }
}

/// The future of [`CredentialProvider::provide`].
pub type Providing<'a> =
    Pin<Box<dyn Future<Output = Result<Credentials, Box<dyn StdError + Send + Sync>>> + Send + 'a>>;

impl CredentialProvider for Arc<dyn CredentialProvider> {
    fn name(&self) -> &str {
        (**self).name()
    }

    fn provide<'a>(&'a self, request: &'a CredentialRequest) -> Providing<'a> {
        (**self).provide(request)
    }

    fn needs_tls(&self) -> bool {
        (**self).needs_tls()
    }
}

/// For which connection credentials are asked.
///
/// ```
/// use leadpool::{HostAddr, credentials::CredentialRequest};
///
/// let request = CredentialRequest::new(HostAddr::new("db1", 5432), "app", "shop");
/// assert!(request.rejected.is_none());
/// ```
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct CredentialRequest {
    /// The host, by the name that the configuration or a discovery gives it.
    pub host: HostAddr,
    /// The role of the configuration; the operating system's user if it names none.
    pub user: String,
    /// The database; named as the user if the configuration names none.
    pub dbname: String,
    /// What the host has just refused, when the provider is asked for the second time. A provider
    /// that keeps what it fetched must not answer with the same again.
    pub rejected: Option<Credentials>,
}

impl CredentialRequest {
    /// A first request: for the tests of a provider.
    pub fn new(host: HostAddr, user: impl Into<String>, dbname: impl Into<String>) -> Self {
        Self {
            host,
            user: user.into(),
            dbname: dbname.into(),
            rejected: None,
        }
    }
}

/// How to log in.
///
/// ```
/// use leadpool::credentials::Credentials;
///
/// let credentials = Credentials::password("hunter2").as_user("app_2");
/// assert!(!format!("{credentials:?}").contains("hunter2"));
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Credentials {
    /// The role, in place of the configuration's; `None`: that of the configuration.
    pub user: Option<String>,
    /// The password or token; `None`: there is none, so a host that asks for one is not logged in
    /// to.
    pub password: Option<Secret>,
}

impl Credentials {
    /// No password.
    #[must_use]
    pub fn none() -> Self {
        Self::default()
    }

    /// A password or token for the role of the configuration.
    pub fn password(password: impl Into<String>) -> Self {
        Self::from(Secret::new(password))
    }

    /// The same for another role.
    #[must_use]
    pub fn as_user(mut self, user: impl Into<String>) -> Self {
        self.user = Some(user.into());
        self
    }
}

impl From<Secret> for Credentials {
    fn from(password: Secret) -> Self {
        Self {
            user: None,
            password: Some(password),
        }
    }
}
