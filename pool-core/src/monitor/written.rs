//! How far the writer is: tokens, and what became of them.

use std::time::{Duration, Instant};

use tokio::time::{Instant as Deadline, sleep_until};

use super::Cluster;
use crate::{
    consistency::{ConsistencyToken, Standing, Vantage, standing},
    error::Error,
    failover::Report,
    topology::{Target, Term, Topology},
};

/// How long to wait for a look at a writer that does not say how far it is.
const LOOK: Duration = Duration::from_millis(250);
/// How long to rest before it is asked again.
const PAUSE: Duration = Duration::from_millis(10);

impl Cluster {
    /// What a read must have seen in order to see all that has been committed before this call:
    /// asks the writer for its position.
    ///
    /// It takes one round trip, over a connection of the cluster's own that all who ask at the
    /// same time share. A transaction that gives its token without one:
    /// [`TxBuilder::run_with_token`](crate::TxBuilder::run_with_token).
    ///
    /// After a failover the new writer is asked: the token then stands for what that one has, and
    /// its [timeline](ConsistencyToken::timeline) tells so. What the old one had committed, and
    /// lost, is not in it.
    ///
    /// Where the writer tells no position (Aurora) it is a token [of the
    /// writer](ConsistencyToken::of_writer).
    ///
    /// # Errors
    ///
    /// [`Error::NoHost`] if no writer has answered within the
    /// [`checkout_timeout`](crate::config::PoolSettings::checkout_timeout).
    ///
    /// # Cancel safety
    ///
    /// Nothing is lost when the future is dropped.
    ///
    /// # Examples
    ///
    /// ```no_run
    /// # async fn f(pool: leadpool::Pool) -> Result<(), leadpool::Error> {
    /// pool.get().await?.execute("INSERT INTO visits DEFAULT VALUES", &[]).await?;
    /// let token = pool.cluster().token().await?;
    /// let reader = pool.reader_at(&token).await?; // sees the visit
    /// # drop(reader);
    /// # Ok(())
    /// # }
    /// ```
    pub async fn token(&self) -> Result<ConsistencyToken, Error> {
        self.timeout_token(self.config().pool().checkout_timeout)
            .await
    }

    /// [`token`](Self::token) within a time of its own.
    ///
    /// # Errors
    ///
    /// As [`token`](Self::token).
    ///
    /// # Cancel safety
    ///
    /// As [`token`](Self::token).
    pub async fn timeout_token(&self, timeout: Duration) -> Result<ConsistencyToken, Error> {
        // An answer to an older question may not have it.
        let (asked_at, begun) = (Instant::now(), Deadline::now());
        let deadline = begun
            .checked_add(timeout)
            .unwrap_or_else(|| begun + Duration::from_secs(86_400 * 365));
        loop {
            let left = deadline.saturating_duration_since(Deadline::now());
            let topology = self.wait_for(Target::Primary, left).await?;
            let Some(writer) = topology.writer.as_ref() else {
                continue;
            };
            let highest = timeline(topology.term);
            let replay = self.replay(writer);
            let seen = replay.until(self.config(), writer, None, deadline, |seen| {
                // A primary of before a failover is no writer, also if its name still leads to it.
                seen.is_since(asked_at) && !seen.recovering && seen.timeline >= highest
            });
            if let Some(seen) = seen.await {
                let id = seen.system_identifier;
                return Ok(match seen.timeline.zip(seen.position) {
                    Some((timeline, position)) => {
                        ConsistencyToken::of_insert(id, timeline, position)
                    }
                    None => ConsistencyToken::of_writer(id),
                });
            }
            if Deadline::now() >= deadline {
                let source = format!("{writer} did not say how far it is").into();
                return Err(self.no_host(Target::Primary, begun.elapsed(), Some(source)));
            }
            let generation = topology.host(writer).map_or(0, |host| host.generation);
            self.reporter()
                .verify(writer, generation, Report::ConnectionLost, LOOK)
                .await;
            sleep_until((Deadline::now() + PAUSE).min(deadline)).await;
        }
    }

    /// What became of a token, as far as has been seen: whether a failover kept or lost what it
    /// stands for. It asks nobody, and takes no time. A position that the writer has not reached is
    /// found out only by a read that had to wait for it.
    ///
    /// What it says of tokens of older timelines is known of promotions that this process has seen,
    /// and of the last one as long as the server has not been restarted since.
    ///
    /// ```no_run
    /// # fn f(cluster: &leadpool::Cluster, token: leadpool::consistency::ConsistencyToken) {
    /// use leadpool::consistency::Standing;
    ///
    /// if cluster.standing(&token) == Standing::Lost {
    ///     eprintln!("a failover has lost it");
    /// }
    /// # }
    /// ```
    #[must_use]
    pub fn standing(&self, token: &ConsistencyToken) -> Standing {
        let topology = self.glance();
        let vantage = vantage(&topology);
        standing(token, &vantage, &self.history())
    }
}

/// What is known of the writer without asking.
pub(crate) fn vantage(topology: &Topology) -> Vantage {
    Vantage {
        system_identifier: topology.system_identifier,
        timeline: timeline(topology.term),
        end: None,
    }
}

/// Aurora's terms are no timelines.
fn timeline(term: Option<Term>) -> Option<u32> {
    u32::try_from(term?.get()).ok()
}
