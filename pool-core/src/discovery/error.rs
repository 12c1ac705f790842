//! Why a source could not tell the hosts.

use super::AskError;
use crate::{failover::Failure, topology::HostAddr};

/// Why one of leadpool's own sources could not tell the hosts. The known hosts stay as they are,
/// and the application is told by [`Event::DiscoveryFailed`](crate::Event::DiscoveryFailed).
///
/// ```
/// use leadpool::{HostAddr, discovery::DiscoveryError};
///
/// let error = DiscoveryError::nonsense(HostAddr::new("db1", 5432), "a port of 0");
/// assert_eq!(error.to_string(), "db1:5432 gave an answer that can't be used: a port of 0");
/// ```
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DiscoveryError {
    /// No host of the cluster could be asked.
    #[error("no host of the cluster answered: {0}")]
    NoAnswer(#[from] AskError),
    /// The service that knows the hosts could not be asked.
    #[error("{service} does not answer: {failure}")]
    #[non_exhaustive]
    Service {
        /// Who was asked.
        service: HostAddr,
        /// How it failed.
        failure: Failure,
    },
    /// What was answered makes no sense.
    #[error("{host} gave an answer that can't be used: {problem}")]
    #[non_exhaustive]
    Nonsense {
        /// Who answered.
        host: HostAddr,
        /// What is wrong.
        problem: String,
    },
    /// Something has to be set before this source can work.
    #[error("{problem}")]
    #[non_exhaustive]
    Setup {
        /// What is missing, and what to do.
        problem: String,
    },
}

impl DiscoveryError {
    /// An answer that can't be used.
    pub fn nonsense(host: HostAddr, problem: impl Into<String>) -> Self {
        Self::Nonsense {
            host,
            problem: problem.into(),
        }
    }

    pub(super) fn setup(problem: impl Into<String>) -> Self {
        Self::Setup {
            problem: problem.into(),
        }
    }
}
