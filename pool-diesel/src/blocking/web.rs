//! For web crates: the pool serves requests, with what blocks in threads.

use std::{
    borrow::Cow,
    error::Error as StdError,
    fmt,
    panic::{AssertUnwindSafe, catch_unwind},
    time::Duration,
};

use diesel::{PgConnection, result::Error as DieselError};
use leadpool::{
    Cluster, Status, Target,
    consistency::{ConsistencyToken, Served},
    web::{Awaited, Hold, Told, WebPool},
};
use tokio::{
    sync::{mpsc, oneshot},
    task::coop::unconstrained,
};

use super::{
    Error, InteractError, InteractPool, Object,
    error::{classified, into_pool},
};

type Job = Box<dyn FnOnce(&mut PgConnection) -> Result<(), leadpool::Error> + Send>;

/// An open transaction of a web request, whose statements run in a thread.
///
/// The thread is the transaction's for as long as it lasts. The transaction ends with the request:
/// drop the handle before it is answered.
///
/// ```no_run
/// use diesel::prelude::*;
/// use leadpool_diesel::blocking::{InteractError, WebTx};
///
/// async fn pay(tx: &WebTx, id: i64) -> Result<QueryResult<usize>, InteractError> {
///     tx.interact(move |conn| {
///         diesel::sql_query("UPDATE orders SET paid = true WHERE id = $1")
///             .bind::<diesel::sql_types::BigInt, _>(id)
///             .execute(conn)
///     })
///     .await
/// }
/// ```
pub struct WebTx {
    jobs: mpsc::UnboundedSender<Job>,
}

impl WebTx {
    /// Runs a closure with the connection, in the transaction's thread.
    ///
    /// # Errors
    ///
    /// The closure panicked, and nothing will be committed; or the transaction has ended, because
    /// its host was given up or its time is over.
    ///
    /// # Cancel safety
    ///
    /// As [`Object::interact`].
    pub async fn interact<R: Send + 'static>(
        &self,
        closure: impl FnOnce(&mut PgConnection) -> R + Send + 'static,
    ) -> Result<R, InteractError> {
        let (wanted, answer) = oneshot::channel();
        let job = move |conn: &mut PgConnection| {
            if wanted.is_closed() {
                return Ok(());
            }
            let ran = catch_unwind(AssertUnwindSafe(|| closure(conn)));
            let panicked = ran.is_err();
            drop(wanted.send(ran.map_err(InteractError::Panic)));
            match panicked {
                true => Err(leadpool::Error::user(Panicked)),
                false => Ok(()),
            }
        };
        // Nobody to do it: then nobody answers either.
        drop(self.jobs.send(Box::new(job)));
        answer.await.unwrap_or(Err(InteractError::Aborted))
    }
}

impl fmt::Debug for WebTx {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WebTx").finish_non_exhaustive()
    }
}

/// A closure of the transaction's panicked: what it had done can't be relied on.
#[derive(Debug)]
struct Panicked;

impl fmt::Display for Panicked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&InteractError::Panic(Box::new(())), f)
    }
}

impl StdError for Panicked {}

impl WebPool for InteractPool {
    type Client = Object;
    type Tx = WebTx;

    async fn checkout(
        &self,
        target: Target,
        limit: Option<Duration>,
    ) -> Result<Object, leadpool::Error> {
        let timeout = self.inner.timeout;
        let timeout = limit.map_or(timeout, |limit| limit.min(timeout));
        let got = self.with_target(target).get_within(timeout).await;
        got.map_err(out_of)
    }

    async fn checkout_at(
        &self,
        token: &ConsistencyToken,
        limit: Option<Duration>,
    ) -> Result<(Object, Served), leadpool::Error> {
        let timeout = self.inner.timeout;
        let timeout = limit.map_or(timeout, |limit| limit.min(timeout));
        self.get_at(token, timeout).await.map_err(out_of)
    }

    fn transact(
        &self,
        limit: Option<Duration>,
        hold: Hold<WebTx>,
    ) -> impl Future<Output = Result<(), leadpool::Error>> + Send + 'static {
        let pool = self.writer();
        async move {
            let deadline = pool.cluster().config().tx().deadline;
            let deadline = limit.map_or(deadline, |limit| limit.min(deadline));
            let tx = pool.tx().retries(0).deadline(deadline);
            let ended = tx.try_run::<_, Error>(move |conn| {
                let (jobs, inbox) = mpsc::unbounded_channel();
                // Nobody waits for it any more.
                let end = hold.clone().give(WebTx { jobs });
                let end = end.ok_or(leadpool::Error::Closed)?;
                Ok(work(conn, inbox, end)?)
            });
            ended.await.map_err(out_of)
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

/// Does what is asked of the transaction, until its handle is gone; then waits for the verdict.
fn work(
    conn: &mut PgConnection,
    mut inbox: mpsc::UnboundedReceiver<Job>,
    end: Awaited,
) -> Result<(), leadpool::Error> {
    let mut end = Box::pin(end.wait());
    loop {
        match pollster::block_on(unconstrained(next(&mut inbox, &mut end))) {
            Turn::Job(job) => job(conn)?,
            Turn::End(ended) => return ended,
        }
    }
}

/// What a transaction's thread has to do.
#[derive(Debug)]
enum Turn<J> {
    Job(J),
    End(Result<(), leadpool::Error>),
}

async fn next<J>(
    inbox: &mut mpsc::UnboundedReceiver<J>,
    end: &mut (impl Future<Output = Result<(), leadpool::Error>> + Unpin),
) -> Turn<J> {
    tokio::select! {
        biased;
        job = inbox.recv() => match job {
            Some(job) => Turn::Job(job),
            None => Turn::End(end.await),
        },
        // The handle may have gone since it was last looked for, but before the answer. If it has,
        // nobody waits for what is left in the inbox.
        ended = &mut *end => Turn::End(match inbox.sender_strong_count() {
            0 => ended,
            _ => ended.and(Err(leadpool::Error::Escaped)),
        }),
    }
}

fn out_of(error: Error) -> leadpool::Error {
    match error {
        Error::Pool(error) => error,
        Error::Diesel(error) => into_pool(error),
    }
}

/// What an error of diesel's says: a [`Reader`](leadpool::web::Reader) for web crates.
///
/// ```
/// use leadpool_diesel::{blocking, leadpool::{self, web::Problem}};
///
/// let closed = blocking::Error::Pool(leadpool::Error::Closed);
/// assert_eq!(Problem::of(&closed, &[blocking::told]).status(), 503);
/// ```
#[must_use]
pub fn told<'a>(error: &'a (dyn StdError + 'static)) -> Option<Told<'a>> {
    let error = match error.downcast_ref::<Error>() {
        Some(Error::Pool(error)) => return Some(Told::Pool(error)),
        Some(Error::Diesel(error)) => error,
        None => error.downcast_ref::<DieselError>()?,
    };
    match classified(error) {
        (Some(code), _) => Some(Told::Server(Cow::Borrowed(code))),
        (None, is_lost) => is_lost.then_some(Told::Lost),
    }
}

#[cfg(test)]
mod tests {
    use std::{future::poll_fn, task::Poll};

    use super::*;

    #[test]
    fn a_handle_that_goes_right_before_the_answer_has_not_escaped() {
        for (left, keeps, commits) in [
            (false, false, true),
            (true, false, true),
            (false, true, false),
        ] {
            let (handle, mut inbox) = mpsc::unbounded_channel();
            let mut handle = Some(handle);
            let mut end = poll_fn(|_| {
                if let (true, Some(handle)) = (left, &handle) {
                    handle.send("given up").unwrap();
                }
                if !keeps {
                    handle = None;
                }
                Poll::Ready(Ok(()))
            });
            let turn = pollster::block_on(next(&mut inbox, &mut end));
            let is_sound = match &turn {
                Turn::End(Ok(())) => commits,
                Turn::End(Err(leadpool::Error::Escaped)) => !commits,
                _ => false,
            };
            assert!(is_sound, "{turn:?}");
        }
    }
}
