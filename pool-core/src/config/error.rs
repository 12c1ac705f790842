//! What can be wrong with a configuration.

/// What is wrong with a configuration, and where.
///
/// It names the key, and says what to do; it never holds the connection string, a password, or
/// anything that could be part of one.
///
/// ```
/// use leadpool::{Config, config::ConfigError};
///
/// let error = Config::from_url("postgres://db1/shop?conect_timeout=3").unwrap_err();
/// assert_eq!(error.key(), "conect_timeout");
/// assert!(error.to_string().contains("connect_timeout"));
/// ```
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// The text is neither a URL nor a list of `key = value` pairs.
    #[error("the connection string can't be read: {problem}")]
    #[non_exhaustive]
    Syntax {
        /// What is wrong.
        problem: &'static str,
    },
    /// There is no such key.
    #[error("unknown key `{key}`{}", suggestion.map(|s| format!("; did you mean `{s}`?")).unwrap_or_default())]
    #[non_exhaustive]
    UnknownKey {
        /// The key.
        key: String,
        /// A key that is spelled almost the same.
        suggestion: Option<&'static str>,
    },
    /// libpq knows the key, leadpool does not support it.
    #[error("`{key}` is not supported: {hint}")]
    #[non_exhaustive]
    Unsupported {
        /// The key.
        key: String,
        /// What to do instead.
        hint: &'static str,
    },
    /// A key is given twice.
    #[error("`{key}` is given twice: keep one")]
    #[non_exhaustive]
    DuplicateKey {
        /// The key.
        key: String,
    },
    /// A value can't be used.
    #[error("`{key}`: {problem}")]
    #[non_exhaustive]
    InvalidValue {
        /// The key.
        key: String,
        /// What is wrong with the value.
        problem: String,
    },
    /// Two settings contradict each other.
    #[error("`{key}` contradicts `{with}`: {reason}")]
    #[non_exhaustive]
    Contradiction {
        /// The one key.
        key: &'static str,
        /// The other key.
        with: &'static str,
        /// Why both can't be.
        reason: &'static str,
    },
    /// No host is named.
    #[error(
        "`host`: name at least one host; there is no default, so that a forgotten setting never connects to the wrong server"
    )]
    NoHosts,
    /// A host is named twice.
    #[error("`host`: {host} is named twice: keep one")]
    #[non_exhaustive]
    DuplicateHost {
        /// The host.
        host: String,
    },
}

impl ConfigError {
    /// The key that is concerned; of two, the first; `conninfo` when the text as a whole is.
    #[must_use]
    pub fn key(&self) -> &str {
        match self {
            Self::Syntax { .. } => "conninfo",
            Self::UnknownKey { key, .. }
            | Self::Unsupported { key, .. }
            | Self::DuplicateKey { key }
            | Self::InvalidValue { key, .. } => key,
            Self::Contradiction { key, .. } => key,
            Self::NoHosts | Self::DuplicateHost { .. } => "host",
        }
    }

    /// The same, naming the variable of the environment that the value of its key came from.
    pub(super) fn of_variable(mut self, variable: impl Fn(&str) -> Option<String>) -> Self {
        if let Self::UnknownKey { key, .. }
        | Self::Unsupported { key, .. }
        | Self::DuplicateKey { key }
        | Self::InvalidValue { key, .. } = &mut self
        {
            if let Some(name) = variable(key) {
                *key = name;
            }
        }
        self
    }

    pub(crate) fn invalid(key: &str, problem: impl Into<String>) -> Self {
        Self::InvalidValue {
            key: key.to_owned(),
            problem: problem.into(),
        }
    }
}
