//! Why there are no credentials.

use std::{error::Error as StdError, fmt, sync::Arc};

use crate::topology::HostAddr;

/// A provider had no credentials for a host.
///
/// It is the source of the error that a checkout ends with: of
/// [`Error::Connect`](crate::Error::Connect) at once if it is [permanent](Self::is_permanent), else
/// of [`Error::NoHost`](crate::Error::NoHost) when the deadline has passed.
///
/// ```
/// use leadpool::credentials::CredentialError;
///
/// // What a provider says when asking again is in vain:
/// let error = CredentialError::permanent("the vault has no role named shop");
/// assert!(error.is_permanent());
/// ```
#[derive(Clone, Debug)]
pub struct CredentialError {
    provider: Option<Arc<str>>,
    host: Option<HostAddr>,
    permanent: bool,
    source: Arc<dyn StdError + Send + Sync>,
}

impl CredentialError {
    /// Asking again is in vain until somebody changes something: checkouts fail at once.
    pub fn permanent(source: impl Into<Box<dyn StdError + Send + Sync>>) -> Self {
        Self::new(true, source.into())
    }

    /// Asking again may help: a checkout goes on until its deadline.
    pub fn transient(source: impl Into<Box<dyn StdError + Send + Sync>>) -> Self {
        Self::new(false, source.into())
    }

    fn new(permanent: bool, source: Box<dyn StdError + Send + Sync>) -> Self {
        Self {
            provider: None,
            host: None,
            permanent,
            source: source.into(),
        }
    }

    /// A provider's error, with what leadpool knows of it.
    pub(crate) fn of(
        provider: &str,
        host: &HostAddr,
        error: Box<dyn StdError + Send + Sync>,
    ) -> Self {
        let error = match error.downcast::<Self>() {
            Ok(own) => *own,
            Err(error) => Self::new(false, error),
        };
        Self {
            provider: Some(provider.into()),
            host: Some(host.clone()),
            ..error
        }
    }

    /// The host asks for a password, and nobody has one.
    pub(crate) fn missing(host: &HostAddr) -> Self {
        let why = "it asks for a password, and there is none: set `password` or `passfile`, or \
                   give a provider";
        Self {
            host: Some(host.clone()),
            ..Self::permanent(why)
        }
    }

    /// The host that the credentials were asked for, once leadpool has added it.
    #[must_use]
    pub fn host(&self) -> Option<&HostAddr> {
        self.host.as_ref()
    }

    /// Whether asking again is in vain.
    #[must_use]
    pub fn is_permanent(&self) -> bool {
        self.permanent
    }
}

impl fmt::Display for CredentialError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("no credentials")?;
        if let Some(host) = &self.host {
            write!(f, " for {host}")?;
        }
        if let Some(provider) = &self.provider {
            write!(f, " from {provider}")?;
        }
        write!(f, ": {}", self.source)
    }
}

impl StdError for CredentialError {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        Some(self.source.as_ref())
    }
}
