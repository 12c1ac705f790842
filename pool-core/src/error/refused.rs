//! A token that no host of the cluster can serve.

use std::fmt;

use crate::{
    consistency::{ConsistencyToken, Standing},
    topology::Term,
};

/// A consistency token that no host of this cluster can serve: of another cluster, or of a timeline
/// that none of its primaries has shown. Nothing was done.
///
/// ```no_run
/// # async fn f(pool: leadpool::Pool, token: leadpool::consistency::ConsistencyToken)
/// # -> Result<(), leadpool::Error> {
/// use leadpool::Error;
///
/// let client = match pool.reader_at(&token).await {
///     // The token is of no use here: forget it.
///     Err(Error::TokenRefused(refused)) => {
///         eprintln!("{refused}");
///         pool.reader().await?
///     }
///     other => other?,
/// };
/// # drop(client);
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct TokenRefused {
    /// The token.
    pub token: ConsistencyToken,
    /// [`Standing::Foreign`] or [`Standing::Future`].
    pub standing: Standing,
    /// The cluster's own system identifier.
    pub system_identifier: Option<u64>,
    /// The highest term that a primary of the cluster has shown.
    pub term: Option<Term>,
}

impl fmt::Display for TokenRefused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let told = |number: Option<u64>| {
            number.map_or_else(|| "unknown".to_owned(), |number| number.to_string())
        };
        match self.standing {
            Standing::Foreign => write!(
                f,
                "the consistency token is of another cluster, with the system identifier {}; this \
                 one has {}: drop the token, and look who hands them out",
                told(self.token.system_identifier()),
                told(self.system_identifier)
            ),
            _ => write!(
                f,
                "the consistency token is of timeline {}, which no primary of this cluster has \
                 shown; the highest is {}: try again once a failover is over, or drop the token",
                told(self.token.timeline().map(u64::from)),
                told(self.term.map(Term::get))
            ),
        }
    }
}
