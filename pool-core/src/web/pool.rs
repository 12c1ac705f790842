//! What a pool does for a request.

use std::time::Duration;

use deadpool_postgres::Client;

use super::Hold;
use crate::{
    consistency::{ConsistencyToken, Served},
    error::Error,
    monitor::Cluster,
    native::{Pool, Tx},
    pool::Status,
    topology::Target,
};

/// A pool that serves web requests: leadpool's own, and with their feature `web` those of
/// `leadpool-sqlx` and `leadpool-diesel`.
///
/// ```no_run
/// use leadpool::{Error, Target, web::WebPool};
///
/// async fn first_reader<P: WebPool>(pool: &P) -> Result<P::Client, Error> {
///     pool.checkout(Target::PreferStandby, None).await
/// }
/// ```
pub trait WebPool: Clone + Send + Sync + 'static {
    /// What a checkout gives: the driver's own connection.
    type Client: Send + 'static;
    /// An open transaction. Dropping it gives it back to who commits it.
    type Tx: Send + 'static;

    /// Takes a connection, within the checkout timeout, and within `limit` if there is one.
    ///
    /// # Errors
    ///
    /// As [`Pool::get`](crate::Pool::get).
    ///
    /// # Cancel safety
    ///
    /// As [`Pool::get`](crate::Pool::get).
    fn checkout(
        &self,
        target: Target,
        limit: Option<Duration>,
    ) -> impl Future<Output = Result<Self::Client, Error>> + Send;

    /// Takes a connection for a read that must show what the token stands for, within the checkout
    /// timeout, and within `limit` if there is one; and says who serves it.
    ///
    /// # Errors
    ///
    /// As [`Pool::reader_at`](crate::Pool::reader_at).
    ///
    /// # Cancel safety
    ///
    /// As [`Pool::get`](crate::Pool::get).
    fn checkout_at(
        &self,
        token: &ConsistencyToken,
        limit: Option<Duration>,
    ) -> impl Future<Output = Result<(Self::Client, Served), Error>> + Send;

    /// Runs one transaction on the writer, without a repetition, in which `hold` is given the
    /// handle; commits it if `hold` says so. It has the time of the configuration, and `limit` at
    /// most.
    ///
    /// # Errors
    ///
    /// As [`Pool::run_tx`](crate::Pool::run_tx), and that of `hold` when it is rolled back.
    ///
    /// # Cancel safety
    ///
    /// As [`Pool::run_tx`](crate::Pool::run_tx).
    fn transact(
        &self,
        limit: Option<Duration>,
        hold: Hold<Self::Tx>,
    ) -> impl Future<Output = Result<(), Error>> + Send + 'static;

    /// The cluster behind the pool.
    fn cluster(&self) -> &Cluster;

    /// The gauges of every sub-pool.
    fn status(&self) -> Status;

    /// Ends the pool in good order, within `limit`: as [`Pool::drain`](crate::Pool::drain).
    ///
    /// # Cancel safety
    ///
    /// As [`Pool::drain`](crate::Pool::drain).
    fn drain(&self, limit: Duration) -> impl Future<Output = ()> + Send;
}

impl WebPool for Pool {
    type Client = Client;
    type Tx = Tx;

    fn checkout(
        &self,
        target: Target,
        limit: Option<Duration>,
    ) -> impl Future<Output = Result<Client, Error>> + Send {
        let timeout = self.cluster().config().pool().checkout_timeout;
        self.timeout_get(target, limit.map_or(timeout, |limit| limit.min(timeout)))
    }

    fn checkout_at(
        &self,
        token: &ConsistencyToken,
        limit: Option<Duration>,
    ) -> impl Future<Output = Result<(Client, Served), Error>> + Send {
        let timeout = self.cluster().config().pool().checkout_timeout;
        self.timeout_reader_at(token, limit.map_or(timeout, |limit| limit.min(timeout)))
    }

    fn transact(
        &self,
        limit: Option<Duration>,
        hold: Hold<Tx>,
    ) -> impl Future<Output = Result<(), Error>> + Send + 'static {
        let pool = self.clone();
        async move {
            let deadline = pool.cluster().config().tx().deadline;
            let deadline = limit.map_or(deadline, |limit| limit.min(deadline));
            let tx = pool.tx().retries(0).deadline(deadline);
            tx.run(move |tx| hold.hold(tx)).await
        }
    }

    fn cluster(&self) -> &Cluster {
        self.cluster()
    }

    fn status(&self) -> Status {
        self.status()
    }

    async fn drain(&self, limit: Duration) {
        // How many were aborted is told by an event.
        let _ = self.drain(limit).await;
    }
}
