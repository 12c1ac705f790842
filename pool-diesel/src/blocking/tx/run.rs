//! `run_tx` and its options.

use std::{
    error::Error as StdError,
    panic::{AssertUnwindSafe, catch_unwind, resume_unwind},
    sync::{Arc, Mutex, MutexGuard, PoisonError, mpsc},
};

use diesel::{PgConnection, result::Error as DieselError};
use leadpool::{adapter::Options, consistency::ConsistencyToken};
use tokio::task::spawn_blocking;
use tracing::{Instrument as _, Span};

use super::{
    attempt::drive,
    hands::{Hands, Job},
};
use crate::blocking::{
    Error, InteractPool, Pool, PooledConnection,
    error::{into_pool, unwrap, wrap},
    inner::{Inner, Wish, is_reader},
};

/// The options of one transaction, from [`Pool::tx`] or [`InteractPool::tx`].
///
/// ```no_run
/// # fn f(pool: leadpool_diesel::blocking::Pool) -> Result<(), leadpool_diesel::blocking::Error> {
/// use std::time::Duration;
/// use diesel::prelude::*;
/// use leadpool_diesel::leadpool::IsolationLevel;
///
/// pool.tx()
///     .isolation(IsolationLevel::Serializable)
///     .deadline(Duration::from_secs(5))
///     .run(|conn| diesel::sql_query("DELETE FROM orders WHERE paid").execute(conn))?;
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
#[must_use = "a transaction does nothing until `run` is called"]
pub struct TxBuilder<'a, P = Pool> {
    pool: &'a P,
    options: Options,
}

impl<P> TxBuilder<'_, P> {
    leadpool::tx_setters!("leadpool");
}

impl<M> TxBuilder<'_, Pool<M>> {
    /// Runs the transaction: see [`Pool::run_tx`].
    ///
    /// # Errors
    ///
    /// As [`Pool::run_tx`].
    pub fn run<T>(
        self,
        mut closure: impl FnMut(&mut PooledConnection<M>) -> Result<T, DieselError>,
    ) -> Result<T, Error> {
        let ended = self.attempts(|conn| closure(conn).map_err(into_pool));
        ended.map_err(Error::from)
    }

    /// Runs the transaction, and says what a read must have seen in order to see it.
    ///
    /// The position is asked for behind COMMIT, as by [`Pool::token`], which takes a round trip. If
    /// it is not answered soon, or by another writer, the token is one [of the
    /// writer](ConsistencyToken::of_writer).
    ///
    /// # Errors
    ///
    /// As [`Pool::run_tx`].
    ///
    /// # Examples
    ///
    /// See [`Pool::reader_at`].
    pub fn run_with_token<T>(
        mut self,
        closure: impl FnMut(&mut PooledConnection<M>) -> Result<T, DieselError>,
    ) -> Result<(T, ConsistencyToken), Error> {
        let slot = self.options.ask_for_token();
        let cluster = self.pool.cluster();
        let value = self.run(closure)?;
        Ok((value, slot.take(cluster)))
    }

    /// Runs the transaction with an error type of the application's own: see
    /// [`Pool::try_run_tx`].
    ///
    /// # Errors
    ///
    /// The closure's own error, or one of this crate turned into its type.
    pub fn try_run<T, E>(
        self,
        mut closure: impl FnMut(&mut PooledConnection<M>) -> Result<T, E>,
    ) -> Result<T, E>
    where
        E: StdError + From<Error> + Send + Sync + 'static,
    {
        let ended = self.attempts(|conn| closure(conn).map_err(wrap));
        ended.map_err(unwrap)
    }

    /// The loop around the attempts runs in the pool's own thread, and hands what blocks to this
    /// one. So the closure needs to be neither `Send` nor `'static`, and the loop can give up a
    /// statement that hangs.
    fn attempts<T>(
        self,
        mut closure: impl FnMut(&mut PooledConnection<M>) -> Result<T, leadpool::Error>,
    ) -> Result<T, leadpool::Error> {
        let shared = &self.pool.shared;
        let Ok(runtime) = shared.runtime() else {
            return Err(leadpool::Error::Closed);
        };
        let (hands, jobs) = mpsc::channel();
        let driven = drive(shared.inner.clone(), self.options, Caller(hands));
        let ended = runtime.begin(driven.instrument(Span::current()));
        let mut value = None;
        // Until the loop has come to its end.
        while let Ok(job) = jobs.recv() {
            job.run(&mut |conn| {
                value = None;
                value = Some(conn.named(&mut closure)?);
                Ok(())
            });
        }
        ended().unwrap_or(Err(leadpool::Error::Closed))?;
        // Committed without a value: the closure did not run, which can't be.
        value.ok_or(leadpool::Error::Closed)
    }
}

/// The thread that called `run_tx`.
struct Caller(mpsc::Sender<Job>);

impl Hands for Caller {
    fn take(&self, job: Job) {
        // Its thread panics.
        drop(self.0.send(job));
    }
}

impl TxBuilder<'_, InteractPool> {
    /// Runs the transaction: see [`InteractPool::run_tx`].
    ///
    /// # Errors
    ///
    /// As [`InteractPool::run_tx`].
    ///
    /// # Cancel safety
    ///
    /// As [`InteractPool::run_tx`].
    pub async fn run<T: Send + 'static>(
        self,
        mut closure: impl FnMut(&mut PgConnection) -> Result<T, DieselError> + Send + 'static,
    ) -> Result<T, Error> {
        let ended = self.attempts(move |conn| closure(conn).map_err(into_pool));
        ended.await.map_err(Error::from)
    }

    /// Runs the transaction, and says what a read must have seen in order to see it: as that of
    /// [`Pool`].
    ///
    /// # Errors
    ///
    /// As [`InteractPool::run_tx`].
    ///
    /// # Cancel safety
    ///
    /// As [`InteractPool::run_tx`].
    pub async fn run_with_token<T: Send + 'static>(
        mut self,
        closure: impl FnMut(&mut PgConnection) -> Result<T, DieselError> + Send + 'static,
    ) -> Result<(T, ConsistencyToken), Error> {
        let slot = self.options.ask_for_token();
        let cluster = self.pool.cluster();
        let value = self.run(closure).await?;
        Ok((value, slot.take(cluster)))
    }

    /// Runs the transaction with an error type of the application's own: see
    /// [`Pool::try_run_tx`].
    ///
    /// # Errors
    ///
    /// The closure's own error, or one of this crate turned into its type.
    ///
    /// # Cancel safety
    ///
    /// As [`InteractPool::run_tx`].
    pub async fn try_run<T, E>(
        self,
        mut closure: impl FnMut(&mut PgConnection) -> Result<T, E> + Send + 'static,
    ) -> Result<T, E>
    where
        T: Send + 'static,
        E: StdError + From<Error> + Send + Sync + 'static,
    {
        let ended = self.attempts(move |conn| closure(conn).map_err(wrap));
        ended.await.map_err(unwrap)
    }

    async fn attempts<T, F>(self, mut closure: F) -> Result<T, leadpool::Error>
    where
        T: Send + 'static,
        F: FnMut(&mut PgConnection) -> Result<T, leadpool::Error> + Send + 'static,
    {
        let value = Arc::new(Mutex::new(None));
        let theirs = value.clone();
        // What the closure has panicked with.
        let panic = Arc::new(Mutex::new(None));
        let its = panic.clone();
        let hands = Threads {
            closure: Arc::new(Mutex::new(move |conn: &mut PooledConnection| {
                let ran = catch_unwind(AssertUnwindSafe(|| closure(conn)));
                let value = ran.unwrap_or_else(|why| {
                    // Before the unwinding tells the one who waits that nothing comes any more.
                    *lock(&its) = Some(why);
                    resume_unwind(Box::new("the closure panicked"))
                })?;
                *lock(&theirs) = Some(value);
                Ok(())
            })),
        };
        let ended = drive(self.pool.inner.clone(), self.options, hands).await;
        if let Some(panic) = lock(&panic).take() {
            resume_unwind(panic);
        }
        ended?;
        let value = lock(&value).take();
        value.ok_or(leadpool::Error::Closed)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Tokio's threads for what blocks. The closure is locked while it runs, so that a repetition waits
/// for the end of an attempt that was given up.
struct Threads<F> {
    closure: Arc<Mutex<F>>,
}

impl<F> Hands for Threads<F>
where
    F: FnMut(&mut PooledConnection) -> Result<(), leadpool::Error> + Send + 'static,
{
    fn take(&self, job: Job) {
        let closure = self.closure.clone();
        // It ends with the connection, which is shut down when the transaction is given up.
        drop(spawn_blocking(move || job.run(&mut *lock(&closure))));
    }
}

impl<M> Pool<M> {
    /// Runs a transaction on the writer, and runs it again when a failover or another transaction
    /// got in the way.
    ///
    /// The closure runs in the caller's thread. It gets a connection with an open transaction and
    /// ends it by returning: `Ok` commits, `Err` rolls back. It may run several times, so it must
    /// not do what a rollback does not undo (send a mail, charge a card). `conn.transaction` inside
    /// of it makes savepoints.
    ///
    /// What is repeated and what is not is as in [`leadpool::Pool::run_tx`]. Unlike there,
    /// statements can't be sent along with others. So `BEGIN`, and one question before `COMMIT`,
    /// take a round trip each; without [evidence](TxBuilder::evidence) there is no question, and a
    /// COMMIT that is not answered is [unknown](leadpool::Error::Unknown). A `COMMIT` of a
    /// transaction that has failed, which diesel takes for a success, is an
    /// [error](leadpool::Error::RolledBack) either way.
    ///
    /// On a [`reader`](Self::reader) it only reads, on a standby. On a connection with a [test
    /// transaction](super::super::r2d2::TestCustomizer) it is a savepoint of that.
    ///
    /// # Errors
    ///
    /// [`Error::Diesel`] is what the closure returned, if repeating does not cure it; the rest is
    /// as in [`leadpool::Pool::run_tx`], in [`Error::Pool`].
    ///
    /// # Examples
    ///
    /// ```no_run
    /// use diesel::prelude::*;
    ///
    /// # fn f(pool: leadpool_diesel::blocking::Pool) -> Result<(), leadpool_diesel::blocking::Error> {
    /// pool.run_tx(|conn| {
    ///     diesel::sql_query("UPDATE accounts SET cents = cents - 995 WHERE id = 1").execute(conn)?;
    ///     diesel::sql_query("UPDATE accounts SET cents = cents + 995 WHERE id = 2").execute(conn)?;
    ///     Ok(())
    /// })
    /// # }
    /// ```
    pub fn run_tx<T>(
        &self,
        closure: impl FnMut(&mut PooledConnection<M>) -> Result<T, DieselError>,
    ) -> Result<T, Error> {
        self.tx().run(closure)
    }

    /// [`run_tx`](Self::run_tx) with an error type of the application's own.
    ///
    /// Whether an error is worth another attempt is found out from diesel's error in its chain of
    /// [`source`](StdError::source)s: an error that hides its source is not repeated.
    ///
    /// # Errors
    ///
    /// The closure's own error, or one of this crate turned into its type.
    pub fn try_run_tx<T, E>(
        &self,
        closure: impl FnMut(&mut PooledConnection<M>) -> Result<T, E>,
    ) -> Result<T, E>
    where
        E: StdError + From<Error> + Send + Sync + 'static,
    {
        self.tx().try_run(closure)
    }

    /// A transaction with options of its own.
    ///
    /// # Examples
    ///
    /// See [`TxBuilder`].
    pub fn tx(&self) -> TxBuilder<'_, Self> {
        TxBuilder {
            options: options(&self.shared.inner, self.wish),
            pool: self,
        }
    }
}

impl InteractPool {
    /// Runs a transaction as [`Pool::run_tx`], with the closure in a thread of Tokio's.
    ///
    /// # Errors
    ///
    /// As [`Pool::run_tx`].
    ///
    /// # Cancel safety
    ///
    /// Dropping the future shuts down the connection it used, as far as that [can be
    /// had](super::super), and nothing is committed; a closure that has begun ends with its next
    /// statement. Once COMMIT has been sent, dropping it leaves unknown whether it happened.
    pub async fn run_tx<T: Send + 'static>(
        &self,
        closure: impl FnMut(&mut PgConnection) -> Result<T, DieselError> + Send + 'static,
    ) -> Result<T, Error> {
        self.tx().run(closure).await
    }

    /// [`run_tx`](Self::run_tx) with an error type of the application's own: as
    /// [`Pool::try_run_tx`].
    ///
    /// # Errors
    ///
    /// The closure's own error, or one of this crate turned into its type.
    ///
    /// # Cancel safety
    ///
    /// As [`run_tx`](Self::run_tx).
    pub async fn try_run_tx<T, E>(
        &self,
        closure: impl FnMut(&mut PgConnection) -> Result<T, E> + Send + 'static,
    ) -> Result<T, E>
    where
        T: Send + 'static,
        E: StdError + From<Error> + Send + Sync + 'static,
    {
        self.tx().try_run(closure).await
    }

    /// A transaction with options of its own.
    ///
    /// # Examples
    ///
    /// See [`TxBuilder`].
    pub fn tx(&self) -> TxBuilder<'_, Self> {
        TxBuilder {
            options: options(&self.inner, self.wish),
            pool: self,
        }
    }
}

fn options(inner: &Inner, wish: Wish) -> Options {
    let mut options = Options::new(inner.sub_pools.cluster().config().tx());
    options.target = wish.target();
    options.token = wish.token();
    if is_reader(wish.target()) {
        options.read_only = Some(true);
    }
    options
}
