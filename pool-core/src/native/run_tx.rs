//! `run_tx` and its options.

use std::{borrow::Cow, error::Error as StdError, sync::Arc, time::Duration};

use super::{Pool, Tx, attempt};
use crate::{
    error::Error,
    outcome::Proof,
    topology::Target,
    tx::{Attempt, IsolationLevel, Options, Replay, Resolved, Retry},
};

/// The options of one transaction, from [`Pool::tx`].
///
/// ```no_run
/// # async fn f(pool: leadpool::Pool) -> Result<(), leadpool::Error> {
/// use std::time::Duration;
/// use leadpool::{IsolationLevel, Target};
///
/// let total: i64 = pool.tx()
///     .target(Target::PreferStandby)
///     .read_only(true)
///     .isolation(IsolationLevel::RepeatableRead)
///     .deadline(Duration::from_secs(5))
///     .run(|tx| async move { Ok(tx.query_one("SELECT sum(cents) FROM orders", &[]).await?.get(0)) })
///     .await?;
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
#[must_use = "a transaction does nothing until `run` is awaited"]
pub struct TxBuilder<'a> {
    pool: &'a Pool,
    options: Options,
}

impl<'a> TxBuilder<'a> {
    pub(super) fn new(pool: &'a Pool) -> Self {
        Self {
            options: Options::new(pool.cluster().config().tx()),
            pool,
        }
    }

    /// Gives it a name, under which logs and observers find it.
    pub fn name(mut self, name: impl Into<Cow<'static, str>>) -> Self {
        self.options.name = Some(name.into());
        self
    }

    /// Only reads, on a standby; on the writer while no standby is usable.
    pub fn reader(self) -> Self {
        self.target(Target::PreferStandby).read_only(true)
    }

    /// Where it runs: on the writer by default. What goes to a standby should be
    /// [`read_only`](Self::read_only) too, so that it fails the same way when the writer serves it:
    /// see [`reader`](Self::reader).
    pub fn target(mut self, target: Target) -> Self {
        self.options.target = target;
        self
    }

    /// The isolation level; the server's `default_transaction_isolation` if not set.
    pub fn isolation(mut self, level: IsolationLevel) -> Self {
        self.options.isolation = Some(level);
        self
    }

    /// Whether it may only read; the server's `default_transaction_read_only` if not set.
    ///
    /// What only reads is repeated also when the answer to its COMMIT is lost. So a closure must
    /// not make it `READ WRITE` again.
    pub fn read_only(mut self, read_only: bool) -> Self {
        self.options.read_only = Some(read_only);
        self
    }

    /// Makes a serializable, read-only transaction wait for a snapshot that can't fail.
    pub fn deferrable(mut self) -> Self {
        self.options.deferrable = true;
        self
    }

    /// How long each of its statements may take before the server ends it with 57014, which is an
    /// error and not repeated: see [`Error::is_statement_timeout`]. It travels with BEGIN, and ends
    /// with the transaction. COMMIT is exempt, [`deadline`](Self::deadline) bounds it. Zero is no
    /// limit. Default:
    /// [`PoolSettings::statement_timeout`](crate::config::PoolSettings::statement_timeout).
    pub fn statement_timeout(mut self, limit: Duration) -> Self {
        self.options.statement_timeout = Some(limit);
        self
    }

    /// How often it is repeated after the first attempt, at most. An outage costs one retry,
    /// however long it is. Default: [`TxSettings::retries`](crate::config::TxSettings::retries).
    pub fn retries(mut self, retries: u32) -> Self {
        self.options.retries = retries;
        self
    }

    /// How long it may take, all attempts and waits together. After an attempt that lost against
    /// another transaction a retry begins only if as much time is left as that attempt took.
    /// Default: [`TxSettings::deadline`](crate::config::TxSettings::deadline).
    pub fn deadline(mut self, deadline: Duration) -> Self {
        self.options.deadline = deadline;
        self
    }

    /// The pauses between attempts, asked for once for each transaction that needs one. When they
    /// end, so do the retries. An attempt that waits for the topology does not pause besides.
    /// Default: [`TxSettings::backoff_min`](crate::config::TxSettings::backoff_min) and
    /// [`backoff_max`](crate::config::TxSettings::backoff_max).
    ///
    /// # Examples
    ///
    /// Whatever gives durations will do, for instance what the crate `backon` builds:
    ///
    /// ```no_run
    /// # async fn f(pool: leadpool::Pool) -> Result<(), leadpool::Error> {
    /// use backon::{BackoffBuilder, FibonacciBuilder};
    ///
    /// pool.tx()
    ///     .backoff(|| FibonacciBuilder::default().with_jitter().build())
    ///     .run(|tx| async move { tx.execute("UPDATE jobs SET done = true", &[]).await?; Ok(()) })
    ///     .await?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// The policies of the crate `backoff` are turned into pauses by `leadpool::backoff_pauses`,
    /// with the feature `backoff`.
    pub fn backoff<I>(mut self, pauses: impl Fn() -> I + Send + Sync + 'static) -> Self
    where
        I: IntoIterator<Item = Duration>,
        I::IntoIter: Send + 'static,
    {
        self.options.set_backoff(pauses);
        self
    }

    /// Is told of each attempt, as soon as it has its connection. It observes only: it can't
    /// change what happens, and must not block.
    pub fn on_attempt(mut self, observe: impl Fn(&Attempt<'_>) + Send + Sync + 'static) -> Self {
        self.options.on_attempt = Some(Arc::new(observe));
        self
    }

    /// Is told before each retry. It observes only: it can't change what happens, and must not
    /// block.
    pub fn on_retry(mut self, observe: impl Fn(&Retry<'_>) + Send + Sync + 'static) -> Self {
        self.options.on_retry = Some(Arc::new(observe));
        self
    }

    /// Whether it gathers evidence. Default:
    /// [`TxSettings::evidence`](crate::config::TxSettings::evidence).
    pub fn evidence(mut self, evidence: bool) -> Self {
        self.options.evidence = evidence;
        self
    }

    /// How sure a verdict on its COMMIT has to be. Default:
    /// [`TxSettings::proof`](crate::config::TxSettings::proof).
    pub fn proof(mut self, proof: Proof) -> Self {
        self.options.proof = proof;
        self
    }

    /// How long to look for what became of its COMMIT, if that was not answered. Default: until
    /// the deadline. With zero the transaction is [`Error::Unknown`] at once, and its evidence can
    /// be asked for later, where nobody waits: see [`Pool::resolve`].
    pub fn resolve_within(mut self, limit: Duration) -> Self {
        self.options.resolve_within = Some(limit);
        self
    }

    /// Is told what became of a COMMIT in flight. It observes only, and must not block.
    pub fn on_resolved(mut self, observe: impl Fn(&Resolved<'_>) + Send + Sync + 'static) -> Self {
        self.options.on_resolved = Some(Arc::new(observe));
        self
    }

    /// Runs the transaction: see [`Pool::run_tx`].
    ///
    /// # Errors
    ///
    /// As [`Pool::run_tx`].
    ///
    /// # Cancel safety
    ///
    /// As [`Pool::run_tx`].
    pub async fn run<T, F, Fut>(self, closure: F) -> Result<T, Error>
    where
        F: FnOnce(Tx) -> Fut + Replay,
        Fut: Future<Output = Result<T, Error>>,
    {
        let pools = self.pool.sub_pools();
        let sessions = self.pool.sessions();
        let options = &self.options;
        let transactions = self.pool.transactions();
        transactions
            .run(pools, options, |this| {
                attempt::attempt(pools, sessions, options, closure.clone(), this)
            })
            .await
    }

    /// Runs the transaction with an error type of the application's own: see
    /// [`Pool::try_run_tx`].
    ///
    /// # Errors
    ///
    /// The closure's own error, or a leadpool error turned into its type.
    ///
    /// # Cancel safety
    ///
    /// As [`Pool::run_tx`].
    pub async fn try_run<T, E, F, Fut>(self, closure: F) -> Result<T, E>
    where
        F: FnOnce(Tx) -> Fut + Replay,
        Fut: Future<Output = Result<T, E>>,
        E: StdError + From<Error> + Send + Sync + 'static,
    {
        let outcome = self
            .run(move |tx| {
                let running = closure(tx);
                async move { running.await.map_err(wrap) }
            })
            .await;
        outcome.map_err(unwrap)
    }
}

/// Carries an application's error through the retry loop, which looks for the driver's error in
/// its sources.
fn wrap<E: StdError + Send + Sync + 'static>(error: E) -> Error {
    let boxed: Box<dyn StdError + Send + Sync> = Box::new(error);
    match boxed.downcast::<Error>() {
        Ok(error) => *error,
        Err(boxed) => Error::User(boxed),
    }
}

/// The reverse of [`wrap`].
fn unwrap<E: StdError + From<Error> + 'static>(error: Error) -> E {
    match error {
        Error::User(boxed) => match boxed.downcast::<E>() {
            Ok(error) => *error,
            Err(boxed) => Error::User(boxed).into(),
        },
        error => error.into(),
    }
}

impl Pool {
    /// Runs a transaction on the writer, and runs it again when a failover or another transaction
    /// got in the way.
    ///
    /// The closure gets an open transaction and ends it by returning: `Ok` commits, `Err` rolls
    /// back. It may run several times, so it must not do what a rollback does not undo (send a
    /// mail, charge a card); what it captures is cloned for each run.
    ///
    /// Repeated is only what is known not to have been committed: a transaction that lost its
    /// connection before COMMIT was sent, or that the server refused for a reason that passes
    /// (serialization failure, deadlock, shutdown, a host that is no writer any more;
    /// [all of them](crate::manual::retries)), or whose COMMIT is [proved](crate::manual::commit)
    /// not to have happened. Between
    /// attempts it waits for the topology, not for a fixed time. The number of attempts, the
    /// time, and the share of retries in the whole pool's load are bounded
    /// ([`TxSettings`](crate::config::TxSettings)).
    ///
    /// BEGIN travels with the closure's first statement. A transaction of one prepared statement
    /// takes two round trips, evidence included; the first on each connection one more.
    ///
    /// # Errors
    ///
    /// - [`Error::Unknown`]: COMMIT was sent and never answered, and what became of it can't be
    ///   proved. It is not repeated; the evidence in it can be [asked for](Self::resolve) later.
    /// - [`Error::NotReplicated`]: committed, but perhaps on one server only.
    /// - [`Error::RolledBack`]: a statement had failed, and the closure returned `Ok` all the
    ///   same.
    /// - [`Error::TxDeadline`], [`Error::RetriesExhausted`], [`Error::NoHost`],
    ///   [`Error::QueueFull`]: not in time, or not in so many attempts. Nothing was committed.
    /// - what the closure returned, if repeating does not cure it.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future closes the connection it used: the server rolls back, and nothing of
    /// it reaches the next user of the pool. Once COMMIT has been sent, dropping it leaves
    /// unknown whether it happened.
    ///
    /// # Examples
    ///
    /// ```no_run
    /// # async fn f(pool: leadpool::Pool) -> Result<(), leadpool::Error> {
    /// let (from, to, cents) = (1_i64, 2_i64, 995_i64);
    /// pool.run_tx(|tx| async move {
    ///     let change = tx.prepare_cached("UPDATE accounts SET cents = cents + $2 WHERE id = $1").await?;
    ///     tx.execute(&change, &[&from, &-cents]).await?;
    ///     tx.execute(&change, &[&to, &cents]).await?;
    ///     Ok(())
    /// })
    /// .await?;
    /// # Ok(())
    /// # }
    /// ```
    pub async fn run_tx<T, F, Fut>(&self, closure: F) -> Result<T, Error>
    where
        F: FnOnce(Tx) -> Fut + Replay,
        Fut: Future<Output = Result<T, Error>>,
    {
        self.tx().run(closure).await
    }

    /// [`run_tx`](Self::run_tx) with an error type of the application's own.
    ///
    /// Whether an error is worth another attempt is found out from the driver's error in its
    /// chain of [`source`](StdError::source)s: an error that hides its source is not repeated.
    ///
    /// # Errors
    ///
    /// The closure's own error, or a leadpool error turned into its type.
    ///
    /// # Cancel safety
    ///
    /// As [`run_tx`](Self::run_tx).
    ///
    /// # Examples
    ///
    /// ```no_run
    /// #[derive(Debug, thiserror::Error)]
    /// enum ShopError {
    ///     #[error("out of stock")]
    ///     OutOfStock,
    ///     #[error(transparent)]
    ///     Pool(#[from] leadpool::Error),
    ///     #[error("database")]
    ///     Database(#[from] leadpool::tokio_postgres::Error),
    /// }
    ///
    /// # async fn f(pool: leadpool::Pool) -> Result<(), ShopError> {
    /// pool.try_run_tx(|tx| async move {
    ///     match tx.execute("UPDATE stock SET n = n - 1 WHERE n > 0", &[]).await? {
    ///         0 => Err(ShopError::OutOfStock),
    ///         _ => Ok(()),
    ///     }
    /// })
    /// .await
    /// # }
    /// ```
    pub async fn try_run_tx<T, E, F, Fut>(&self, closure: F) -> Result<T, E>
    where
        F: FnOnce(Tx) -> Fut + Replay,
        Fut: Future<Output = Result<T, E>>,
        E: StdError + From<Error> + Send + Sync + 'static,
    {
        self.tx().try_run(closure).await
    }

    /// A transaction with options of its own.
    ///
    /// # Examples
    ///
    /// See [`TxBuilder`].
    pub fn tx(&self) -> TxBuilder<'_> {
        TxBuilder::new(self)
    }
}
