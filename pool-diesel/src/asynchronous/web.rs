//! For web crates: the pool serves requests.

use std::{borrow::Cow, error::Error as StdError, time::Duration};

use diesel::result::Error as DieselError;
use leadpool::{
    Cluster, Status, Target,
    adapter::Purpose,
    consistency::{ConsistencyToken, Served},
    web::{Hold, Told, WebPool},
};

use super::{
    Error, Object, Pool, PoolError, Tx,
    error::{code_of_kind, is_lost},
};

impl WebPool for Pool {
    type Client = Object;
    type Tx = Tx;

    async fn checkout(
        &self,
        target: Target,
        limit: Option<Duration>,
    ) -> Result<Object, leadpool::Error> {
        let timeout = self.cluster().config().pool().checkout_timeout;
        let timeout = limit.map_or(timeout, |limit| limit.min(timeout));
        let pools = &self.inner.sub_pools;
        pools
            .checkout(Purpose::New, target, timeout, |conn, _| conn)
            .await
    }

    async fn checkout_at(
        &self,
        token: &ConsistencyToken,
        limit: Option<Duration>,
    ) -> Result<(Object, Served), leadpool::Error> {
        let timeout = self.cluster().config().pool().checkout_timeout;
        let timeout = limit.map_or(timeout, |limit| limit.min(timeout));
        let pools = &self.inner.sub_pools;
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

/// What an error of diesel's or diesel-async's says: a [`Reader`](leadpool::web::Reader) for web
/// crates.
///
/// ```
/// use leadpool_diesel::{PoolError, leadpool::web::Problem, told};
///
/// let closed = Problem::of(&PoolError::Closed, &[told]);
/// assert_eq!((closed.status(), closed.code()), (503, "unavailable"));
/// ```
#[must_use]
pub fn told<'a>(error: &'a (dyn StdError + 'static)) -> Option<Told<'a>> {
    if let Some(error) = error.downcast_ref::<Error>() {
        return match error {
            Error::Pool(error) => Some(Told::Pool(error)),
            Error::Diesel {
                sqlstate: Some(code),
                ..
            } => Some(Told::Server(Cow::Borrowed(code))),
            Error::Diesel { source, .. } => told(source),
        };
    }
    if let Some(error) = error.downcast_ref::<PoolError>() {
        return match error {
            PoolError::Closed => Some(Told::Closed),
            PoolError::Timeout(_) => Some(Told::Busy),
            error => told(Error::inside(error)?),
        };
    }
    let error = error.downcast_ref::<DieselError>()?;
    if let Some(inside) = Error::inside_diesels(error) {
        return told(inside);
    }
    match code_of_kind(error) {
        Some(code) => Some(Told::Server(Cow::Borrowed(code))),
        None => is_lost(error).then_some(Told::Lost),
    }
}

#[cfg(test)]
mod tests {
    use diesel::result::DatabaseErrorKind;
    use leadpool::web::Problem;

    use super::*;

    fn code(error: &(dyn StdError + 'static)) -> &'static str {
        Problem::of(error, &[told]).code()
    }

    #[test]
    fn what_each_error_amounts_to() {
        let of_kind =
            |kind, text: &str| DieselError::DatabaseError(kind, Box::new(text.to_owned()));
        let lost = of_kind(DatabaseErrorKind::UnableToSendCommand, "connection closed");
        assert_eq!(code(&lost), "interrupted");
        let standby = of_kind(DatabaseErrorKind::ReadOnlyTransaction, "");
        assert_eq!(code(&standby), "try_again");
        assert_eq!(code(&DieselError::NotFound), "internal");
        assert_eq!(code(&PoolError::Closed), "unavailable");
        // One of leadpool's travels inside.
        let refused = || Error::Pool(leadpool::Error::user(Problem::refused(404, "")));
        assert_eq!(code(&refused()), "refused");
        assert_eq!(code(&DieselError::from(refused())), "refused");
        let closed = Error::Pool(leadpool::Error::Closed);
        assert_eq!(code(&DieselError::from(closed)), "unavailable");
    }
}
