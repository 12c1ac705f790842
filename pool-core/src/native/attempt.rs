//! One attempt of a transaction over tokio-postgres.

use std::{
    fmt,
    ops::Deref,
    pin::{Pin, pin},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use deadpool_postgres::{Client, Object};
use futures_util::{FutureExt as _, StreamExt as _};
use tokio::time::{Instant, sleep_until};
use tokio_postgres::{SimpleQueryMessage, SimpleQueryStream, error::SqlState};

use super::Native;
use crate::{
    error::{Disposition, Error, InDoubt, TxPhase, is_connection_loss},
    failover::Report,
    pool::{Generation, SubPools},
    tx::{Failure, Options},
};

/// The first statement fails in a transaction that has failed (25P02) and outside of one (25P01);
/// COMMIT itself would answer ROLLBACK then, or nothing but a warning, which the driver does not
/// pass on. Both go as one message, so the guard costs no round trip.
const COMMIT: &str = "SAVEPOINT leadpool;COMMIT";

/// After this long without an end the monitor looks whether the host lives, and again each time
/// as long passes.
const SLOW: Duration = Duration::from_millis(250);

/// An open transaction, handed to the closure of [`Pool::run_tx`](crate::Pool::run_tx).
///
/// It dereferences to [`deadpool_postgres::Client`], so `query`, `execute`, `prepare_cached` and
/// the rest are there, and `&*tx` goes where `&impl GenericClient` is wanted. The transaction
/// ends with the closure: by COMMIT when it returns `Ok`, by ROLLBACK otherwise. So the handle
/// must not be kept: one that outlives the closure makes the attempt fail
/// ([`Error::Escaped`]).
///
/// ```no_run
/// # async fn f(pool: leadpool::Pool) -> Result<(), leadpool::Error> {
/// let id: i64 = pool
///     .run_tx(|tx| async move {
///         let insert = tx.prepare_cached("INSERT INTO orders DEFAULT VALUES RETURNING id").await?;
///         Ok(tx.query_one(&insert, &[]).await?.get(0))
///     })
///     .await?;
/// # Ok(())
/// # }
/// ```
pub struct Tx {
    /// `None` only while it is being dropped.
    client: Option<Client>,
    seat: Arc<Seat>,
}

/// Where a [`Tx`] leaves its connection when it is dropped.
#[derive(Debug, Default)]
struct Seat(Mutex<SeatState>);

#[derive(Debug, Default)]
#[expect(clippy::large_enum_variant, reason = "one a transaction, in an `Arc`")]
enum SeatState {
    /// The `Tx` is alive.
    #[default]
    Empty,
    /// The `Tx` is gone, here is its connection.
    Left(Client),
    /// The attempt is over: whoever comes now has his connection closed.
    Closed,
}

impl Seat {
    fn lock(&self) -> MutexGuard<'_, SeatState> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Ends the attempt's interest, and takes what is there.
    fn close(&self) -> Option<Client> {
        match std::mem::replace(&mut *self.lock(), SeatState::Closed) {
            SeatState::Left(client) => Some(client),
            SeatState::Empty | SeatState::Closed => None,
        }
    }
}

impl Drop for Tx {
    fn drop(&mut self) {
        let Some(client) = self.client.take() else {
            return;
        };
        let late = {
            let mut seat = self.seat.lock();
            match *seat {
                SeatState::Empty => {
                    *seat = SeatState::Left(client);
                    None
                }
                SeatState::Left(_) | SeatState::Closed => Some(client),
            }
        };
        // A transaction may be open on it.
        if let Some(client) = late {
            drop(Object::take(client));
        }
    }
}

impl Deref for Tx {
    type Target = Client;

    fn deref(&self) -> &Client {
        self.client
            .as_ref()
            .expect("invariant: the connection leaves only in `drop`")
    }
}

impl fmt::Debug for Tx {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tx").finish_non_exhaustive()
    }
}

/// Keeps a connection that has a transaction open: unless it is released in good order, it is
/// closed instead of returned, so that nobody inherits the transaction.
struct Open(Option<Client>);

impl Open {
    fn release(mut self) {
        drop(self.0.take());
    }

    fn client(&self) -> &Client {
        self.0
            .as_ref()
            .expect("invariant: the connection leaves only in `release` and `drop`")
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        if let Some(client) = self.0.take() {
            drop(Object::take(client));
        }
    }
}

/// The same for the time in which the closure has the connection.
struct Lent(Arc<Seat>);

impl Drop for Lent {
    fn drop(&mut self) {
        if let Some(client) = self.0.close() {
            drop(Object::take(client));
        }
    }
}

/// One attempt: checkout, BEGIN, the closure, COMMIT.
///
/// # Cancel safety
///
/// Dropping the future closes the connection: the server rolls back, unless COMMIT has been sent,
/// when it does the one or the other.
pub(super) async fn attempt<T, F, Fut>(
    pools: &SubPools<Native>,
    options: &Options,
    closure: F,
    number: u32,
    deadline: Instant,
) -> Result<T, Failure>
where
    F: FnOnce(Tx) -> Fut,
    Fut: Future<Output = Result<T, Error>>,
{
    let left = deadline.saturating_duration_since(Instant::now());
    let (client, generation) = pools
        .checkout(options.target, left, |client, generation| {
            (client, generation.clone())
        })
        .await
        .map_err(|error| Failure {
            error,
            disposition: Disposition::Fail,
            generation: None,
        })?;
    let attempt = Attempt {
        number,
        deadline,
        generation,
    };
    let seat = Arc::new(Seat::default());
    // Declared before the closure's future, so dropped after it: finds what the `Tx` left.
    let _lent = Lent(seat.clone());
    let begun = send(&client, &options.begin_sql());
    let tx = Tx {
        client: Some(client),
        seat: seat.clone(),
    };
    let mut begun = match begun {
        Ok(begun) => Box::pin(begun),
        Err(error) => {
            drop(tx);
            return Err(attempt.open_failure(error.into()));
        }
    };

    let outcome = attempt.watch(closure(tx)).await?;
    let Some(client) = seat.close() else {
        return Err(attempt.failure(outcome.err().unwrap_or(Error::Escaped)));
    };
    let open = Open(Some(client));
    match outcome {
        Ok(value) => {
            attempt.commit(open, begun).await?;
            Ok(value)
        }
        Err(error) => {
            // What failed first may be BEGIN: the closure saw only what followed from it.
            let error = match answered(&mut begun).now_or_never() {
                Some(Err(begin)) => begin.into(),
                _ => error,
            };
            if !open.client().is_closed() {
                // Nobody waits for it: the next one's statements queue up behind it.
                drop(send(open.client(), "ROLLBACK"));
                open.release();
            }
            Err(attempt.open_failure(error))
        }
    }
}

/// Sends a simple query at once and gives back the stream of its answers.
fn send(client: &Client, sql: &str) -> Result<SimpleQueryStream, tokio_postgres::Error> {
    // The driver sends in the first poll and never waits; a future that is not ready after it
    // would be a change of its design, taken for a lost connection.
    client
        .simple_query_raw(sql)
        .now_or_never()
        .unwrap_or_else(|| Err(tokio_postgres::Error::__private_api_timeout()))
}

/// Waits for the last answer to a simple query.
async fn answered(answers: &mut Pin<Box<SimpleQueryStream>>) -> Result<(), tokio_postgres::Error> {
    while let Some(answer) = answers.next().await {
        answer?;
    }
    Ok(())
}

struct Attempt {
    number: u32,
    deadline: Instant,
    generation: Arc<Generation>,
}

impl Attempt {
    /// Runs the closure's future until it ends, the host is invalidated, or the deadline passes.
    async fn watch<T>(&self, closure: impl Future<Output = T>) -> Result<T, Failure> {
        let mut closure = pin!(closure);
        let generation = self.generation.clone();
        let mut aborted = pin!(generation.aborted());
        let mut look = Instant::now() + SLOW;
        loop {
            tokio::select! {
                biased;
                ended = &mut closure => return Ok(ended),
                () = &mut aborted => return Err(self.failure(self.invalidated())),
                () = sleep_until(look.min(self.deadline)) => {}
            }
            if Instant::now() >= self.deadline {
                return Err(self.failure(self.out_of_time()));
            }
            self.generation.report(Report::Slow);
            look += SLOW;
        }
    }

    /// Sends COMMIT and finds out what became of it.
    async fn commit(
        &self,
        open: Open,
        mut begun: Pin<Box<SimpleQueryStream>>,
    ) -> Result<(), Failure> {
        // Its answer came before those of the closure's statements.
        if let Err(error) = self.watch(answered(&mut begun)).await? {
            return Err(self.open_failure(error.into()));
        }
        let mut answers = match send(open.client(), COMMIT) {
            Ok(answers) => pin!(answers),
            Err(error) => return Err(self.open_failure(error.into())),
        };
        let mut completed = 0;
        let answered = async {
            // The COMMIT tag counts, whatever comes behind it.
            while completed < 2 {
                match answers.next().await {
                    Some(Ok(SimpleQueryMessage::CommandComplete(_))) => completed += 1,
                    Some(Ok(_)) => {}
                    Some(Err(error)) => return Err(Some(error)),
                    None => return Err(None),
                }
            }
            Ok(())
        };
        let error = match self.watch(answered).await {
            Ok(Ok(())) => {
                open.release();
                return Ok(());
            }
            Ok(Err(error)) => error,
            // Invalidated or out of time.
            Err(failure) => return Err(self.in_doubt(Some(failure.error))),
        };
        let Some(error) = error else {
            return Err(self.in_doubt(None));
        };
        match error.code() {
            None => Err(self.in_doubt(Some(error.into()))),
            Some(code) if completed == 0 && *code == SqlState::IN_FAILED_SQL_TRANSACTION => {
                drop(send(open.client(), "ROLLBACK"));
                open.release();
                Err(self.failure(Error::RolledBack))
            }
            Some(code) if completed == 0 && *code == SqlState::NO_ACTIVE_SQL_TRANSACTION => {
                Err(self.failure(Error::EndedByClosure))
            }
            Some(code) => {
                let phase = TxPhase::CommitInFlight;
                let disposition = Disposition::of_sqlstate(code.code(), phase);
                if disposition == Disposition::Resolve {
                    return Err(self.in_doubt(Some(error.into())));
                }
                // The server has ended the transaction; a connection it is closing is not kept.
                if disposition != Disposition::WaitTopology {
                    open.release();
                }
                Err(self.with_disposition(error.into(), disposition))
            }
        }
    }

    /// An error before COMMIT was sent.
    fn open_failure(&self, error: Error) -> Failure {
        let lost = matches!(&error, Error::Postgres(error) if is_connection_loss(error));
        let error = if lost && self.generation.is_aborted() {
            self.invalidated()
        } else {
            error
        };
        self.failure(error)
    }

    fn failure(&self, error: Error) -> Failure {
        let disposition = error.disposition();
        self.with_disposition(error, disposition)
    }

    fn with_disposition(&self, error: Error, disposition: Disposition) -> Failure {
        Failure {
            error,
            disposition,
            generation: Some(self.generation.clone()),
        }
    }

    fn in_doubt(&self, source: Option<Error>) -> Failure {
        let unknown = Error::Unknown(Box::new(InDoubt {
            host: self.generation.host().clone(),
            attempt: self.number,
            source: source.map(Into::into),
        }));
        self.generation.report(Report::ConnectionLost);
        self.with_disposition(unknown, Disposition::Resolve)
    }

    fn invalidated(&self) -> Error {
        Error::Invalidated {
            host: self.generation.host().clone(),
        }
    }

    /// The runner fills in what only it knows.
    fn out_of_time(&self) -> Error {
        Error::TxDeadline {
            elapsed: Duration::ZERO,
            attempts: self.number,
            source: None,
        }
    }
}
