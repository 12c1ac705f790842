//! For web crates: the pool serves requests.

use std::{borrow::Cow, error::Error as StdError, time::Duration};

use leadpool::{
    Cluster, Status, Target,
    adapter::Purpose,
    consistency::{ConsistencyToken, Served},
    web::{Hold, Told, WebPool},
};
use sqlx::{Postgres, pool::PoolConnection};

use crate::{
    Error, Pool, Tx,
    error::{classified, into_pool},
};

impl WebPool for Pool {
    type Client = PoolConnection<Postgres>;
    type Tx = Tx;

    async fn checkout(
        &self,
        target: Target,
        limit: Option<Duration>,
    ) -> Result<PoolConnection<Postgres>, leadpool::Error> {
        let timeout = self.options().get_acquire_timeout();
        let timeout = limit.map_or(timeout, |limit| limit.min(timeout));
        let pools = &self.inner().sub_pools;
        pools
            .checkout(Purpose::New, target, timeout, |conn, _| conn)
            .await
    }

    async fn checkout_at(
        &self,
        token: &ConsistencyToken,
        limit: Option<Duration>,
    ) -> Result<(PoolConnection<Postgres>, Served), leadpool::Error> {
        let timeout = self.options().get_acquire_timeout();
        let timeout = limit.map_or(timeout, |limit| limit.min(timeout));
        let pools = &self.inner().sub_pools;
        pools
            .checkout_at(Purpose::New, token, timeout, |conn, _| conn)
            .await
    }

    fn transact(
        &self,
        limit: Option<Duration>,
        hold: Hold<Tx>,
    ) -> impl Future<Output = Result<(), leadpool::Error>> + Send + 'static {
        let pool = self.writer();
        async move {
            let deadline = pool.cluster().config().tx().deadline;
            let deadline = limit.map_or(deadline, |limit| limit.min(deadline));
            let tx = pool.tx().retries(0).deadline(deadline);
            let ended =
                tx.try_run::<_, Error, _, _>(move |tx| async move { Ok(hold.hold(tx).await?) });
            ended.await.map_err(|error| match error {
                Error::Pool(error) => error,
                Error::Sqlx(error) => into_pool(error),
                error => leadpool::Error::user(error),
            })
        }
    }

    fn cluster(&self) -> &Cluster {
        self.cluster()
    }

    fn status(&self) -> Status {
        self.status()
    }

    async fn drain(&self, limit: Duration) {
        self.drain(limit).await;
    }
}

/// What an error of sqlx's says: a [`Reader`](leadpool::web::Reader) for web crates.
///
/// ```
/// use leadpool_sqlx::{leadpool::web::Problem, told};
///
/// let busy = Problem::of(&sqlx::Error::PoolTimedOut, &[told]);
/// assert_eq!((busy.status(), busy.code()), (503, "overloaded"));
/// ```
#[must_use]
pub fn told<'a>(error: &'a (dyn StdError + 'static)) -> Option<Told<'a>> {
    if let Some(error) = error.downcast_ref::<Error>() {
        return match error {
            Error::Pool(error) => Some(Told::Pool(error)),
            Error::Sqlx(error) => told(error),
            Error::Interrupted(_) => Some(Told::Lost),
            #[cfg(feature = "migrate")]
            Error::MigrationDeadline(_) => None,
        };
    }
    let error = error.downcast_ref::<sqlx::Error>()?;
    if let Some(inside) = Error::inside(error) {
        return told(inside);
    }
    match error {
        sqlx::Error::PoolTimedOut => Some(Told::Busy),
        sqlx::Error::PoolClosed => Some(Told::Closed),
        error => match classified(error) {
            (Some(code), _) => Some(Told::Server(Cow::Owned(code))),
            (None, true) => Some(Told::Lost),
            (None, false) => None,
        },
    }
}

#[cfg(test)]
mod tests {
    use leadpool::web::Problem;

    use super::*;

    fn code(error: &(dyn StdError + 'static)) -> &'static str {
        Problem::of(error, &[told]).code()
    }

    #[test]
    fn what_each_error_amounts_to() {
        assert_eq!(code(&sqlx::Error::PoolTimedOut), "overloaded");
        assert_eq!(code(&sqlx::Error::PoolClosed), "unavailable");
        assert_eq!(code(&sqlx::Error::WorkerCrashed), "interrupted");
        assert_eq!(code(&sqlx::Error::RowNotFound), "internal");
        let lost = std::io::Error::from(std::io::ErrorKind::ConnectionReset);
        assert_eq!(code(&sqlx::Error::Io(lost)), "interrupted");
        // One of leadpool's travels inside.
        let escaped = || Error::Pool(leadpool::Error::Escaped);
        assert_eq!(code(&escaped()), "internal");
        let paused = Error::Pool(leadpool::Error::user(Problem::refused(404, "")));
        assert_eq!(code(&sqlx::Error::from(paused)), "refused");
    }
}
