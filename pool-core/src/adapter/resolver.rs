//! What became of a COMMIT, asked through connections of leadpool's own.

use std::{fmt, sync::Arc, time::Duration};

use tokio::time::Instant;

use crate::{
    error::Error,
    monitor::Cluster,
    native::{Listener, Native, resolve},
    outcome::{Evidence, Outcome, Proof},
    pool::{Generation, SubPools},
    tx::{Resolve, Unresolved},
};

/// Finds out what became of transactions whose COMMIT was not answered.
///
/// It opens connections only when there is something to find out or to listen to, with the login of the cluster's
/// configuration.
pub struct Resolver {
    pools: Arc<SubPools<Native>>,
}

impl Resolver {
    /// For transactions on a cluster. Opens nothing yet.
    #[must_use]
    pub fn new(cluster: &Cluster) -> Self {
        Self {
            pools: SubPools::new(cluster, Native::default()),
        }
    }

    /// Asks the writer, waiting for one if there is none: as
    /// [`Pool::resolve`](crate::Pool::resolve).
    ///
    /// # Errors
    ///
    /// [`Error::Unknown`] when it can't be proved.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future closes the connection it used.
    pub async fn resolve(&self, evidence: &Evidence, timeout: Duration) -> Result<Outcome, Error> {
        resolve::ask(&self.pools, evidence, timeout).await
    }

    /// Receives notifications from whoever is the writer, as
    /// [`Pool::listener`](crate::Pool::listener), until this is closed; waits for a subscription
    /// for `limit` at most. Must be called on a runtime of Tokio.
    #[must_use]
    pub fn listener(&self, limit: Duration) -> Listener {
        Listener::new(self.pools.clone(), limit)
    }

    /// Closes its connections, and ends its listeners. What is being asked is asked to its end.
    pub fn close(&self) {
        self.pools.close();
    }
}

impl Resolve for Resolver {
    fn cluster(&self) -> &Cluster {
        self.pools.cluster()
    }

    async fn resolve_until(
        &self,
        evidence: &Evidence,
        proof: Proof,
        deadline: Instant,
    ) -> Result<Outcome, Unresolved> {
        self.pools.resolve_until(evidence, proof, deadline).await
    }

    async fn is_settled(&self, host: &Generation, evidence: &Evidence) -> bool {
        self.pools.is_settled(host, evidence).await
    }
}

impl fmt::Debug for Resolver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Resolver").finish_non_exhaustive()
    }
}
