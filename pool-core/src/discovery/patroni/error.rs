//! What can go wrong between here and Patroni's REST API.

use std::{io, time::Duration};

use super::MembersError;
use crate::error::BoxError;

/// Why Patroni could not be asked, or its callbacks not be heard.
///
/// Each says which URL was concerned and what to do next. No password and no token is ever part
/// of it.
///
/// ```
/// use leadpool::discovery::patroni::{Patroni, PatroniError};
///
/// let error = Patroni::new(["10.0.0.1:8008"]).unwrap_err();
/// assert!(matches!(error, PatroniError::Url { .. }));
/// assert!(error.to_string().contains("http://"));
/// ```
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PatroniError {
    /// No URL is given.
    #[error("name at least one URL of Patroni's REST API, such as http://10.0.0.1:8008")]
    NoUrls,
    /// A URL can't be used.
    #[error("`{url}`: {problem}")]
    #[non_exhaustive]
    Url {
        /// The URL; what stands before an `@` is left out.
        url: String,
        /// What is wrong.
        problem: &'static str,
    },
    /// The user, the password or the token can't be sent in a header.
    #[error("`{key}`: {problem}")]
    #[non_exhaustive]
    Credentials {
        /// Which of them.
        key: &'static str,
        /// What is wrong.
        problem: &'static str,
    },
    /// A certificate or key can't be used.
    #[error("`{key}`: {problem}")]
    #[non_exhaustive]
    Certificate {
        /// Which of them.
        key: &'static str,
        /// What is wrong.
        problem: String,
        /// What the TLS library said.
        source: Option<BoxError>,
    },
    /// No connection came about.
    #[error("{url}: can't connect: {source}; is Patroni's restapi.connect_address meant?")]
    #[non_exhaustive]
    Connect {
        /// Who was asked.
        url: String,
        /// The system's error.
        source: io::Error,
    },
    /// TLS failed.
    #[error(
        "{url}: TLS failed: {source}; is it https there, is its CA given to `ca_certificate`, and \
         does its certificate hold this name?"
    )]
    #[non_exhaustive]
    Tls {
        /// Who was asked.
        url: String,
        /// What the TLS library said.
        source: io::Error,
    },
    /// The answer is no HTTP, or broke off.
    #[error(
        "{url}: no HTTP answer: {problem}; is it http there? A Patroni that can't reach its DCS \
         hangs up too"
    )]
    #[non_exhaustive]
    Http {
        /// Who was asked.
        url: String,
        /// What the HTTP library said, causes included.
        problem: String,
        /// Its error.
        source: BoxError,
    },
    /// The answer is a redirect. None is followed.
    #[error(
        "{url}: redirects to `{location}` ({status}), which is not followed: give the URL that \
         Patroni itself answers"
    )]
    #[non_exhaustive]
    Redirect {
        /// Who was asked.
        url: String,
        /// The status.
        status: u16,
        /// Where it points.
        location: String,
    },
    /// The answer has a status other than 200.
    #[error("{url}: answered {status}{}", hint(*status))]
    #[non_exhaustive]
    Status {
        /// Who was asked.
        url: String,
        /// The status.
        status: u16,
    },
    /// The answer is too long.
    #[error("{url}: answered over {limit} bytes: is this the REST API of a Patroni?")]
    #[non_exhaustive]
    TooLong {
        /// Who was asked.
        url: String,
        /// How many bytes there may be.
        limit: usize,
    },
    /// No complete answer came in time.
    #[error(
        "{url}: no complete answer within {within:.1?}; a Patroni that can't reach its DCS falls \
         silent too"
    )]
    #[non_exhaustive]
    Silent {
        /// Who was asked.
        url: String,
        /// How long it had.
        within: Duration,
    },
    /// The answer can't be used.
    #[error("{url}: {source}")]
    #[non_exhaustive]
    Answer {
        /// Who was asked.
        url: String,
        /// What is wrong with it.
        source: MembersError,
    },
    /// The answer names no member that has a server.
    #[error("{url}: names no member with a server: is the cluster still being made?")]
    #[non_exhaustive]
    NoHosts {
        /// Who was asked.
        url: String,
    },
    /// Of several URLs, none gave a usable answer.
    #[error("none of {} gave a usable answer: {}", .0.len(), list(.0))]
    AllFailed(Vec<Self>),
    /// The endpoint for callbacks can't listen.
    #[error("can't listen for callbacks on {addr}: {source}")]
    #[non_exhaustive]
    Listen {
        /// The address.
        addr: String,
        /// The system's error.
        source: io::Error,
    },
}

impl PatroniError {
    pub(super) fn certificate(
        key: &'static str,
        problem: &str,
        source: impl Into<BoxError>,
    ) -> Self {
        let source = source.into();
        Self::Certificate {
            key,
            problem: format!("{problem}: {source}"),
            source: Some(source),
        }
    }
}

fn hint(status: u16) -> &'static str {
    match status {
        401 | 403 => ": it wants credentials; see `basic_auth` and `client_certificate`",
        502..=504 => ": what stands before Patroni does not reach it",
        _ => ": is this the REST API of a Patroni?",
    }
}

fn list(errors: &[PatroniError]) -> String {
    let errors: Vec<String> = errors.iter().map(ToString::to_string).collect();
    errors.join("; ")
}
