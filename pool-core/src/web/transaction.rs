//! A transaction that lasts as long as a request is handled.

use std::{
    fmt,
    future::poll_fn,
    pin::pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, Waker},
};

use futures_util::{future::BoxFuture, task::AtomicWaker};
use tokio::sync::oneshot;

use super::{Hold, Problem, TimeLeft, WebPool, hold::Verdict};
use crate::{error::Error, tx::Awake};

/// The transaction of one request, begun by who handles it and ended by its answer.
///
/// A layer makes one for each request, puts a clone where extractors find it, and lets the handler
/// run in [`around`](Self::around). It is `run_tx` without repetitions, so what became of a COMMIT
/// that nobody answered is found out in the same way.
///
/// ```no_run
/// use leadpool::{Error, Pool, web::{Ended, TimeLeft, Transaction}};
///
/// # async fn f(pool: Pool) -> Result<(), Error> {
/// let transaction = Transaction::new();
/// let theirs = transaction.clone();
/// let handler = async move {
///     let tx = theirs.begin(&pool, TimeLeft::default()).await?;
///     Ok::<u64, Error>(tx.execute("DELETE FROM carts", &[]).await?)
/// };
/// match transaction.around(handler, Result::is_ok).await {
///     Ended::Committed(answer) => println!("{:?}", answer?),
///     Ended::Failed(error) => println!("not committed: {error}"),
///     _ => {}
/// }
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Default)]
pub struct Transaction {
    seat: Arc<Mutex<Seat>>,
}

#[derive(Default)]
struct Seat {
    taken: bool,
    /// On its way from the extractor to the layer.
    running: Option<Running>,
    /// Who is to be told of it, if the handler runs in a task of its own.
    waker: Option<Waker>,
}

/// An open transaction, without its handle.
struct Running {
    driven: BoxFuture<'static, Result<(), Error>>,
    verdict: oneshot::Sender<Verdict>,
    /// Woken when the handler may have sent something.
    moved: Arc<AtomicWaker>,
}

/// How a request ended, and its transaction.
#[derive(Debug)]
#[non_exhaustive]
pub enum Ended<R> {
    /// It began no transaction.
    Without(R),
    /// The answer is a success, and what it tells of is committed.
    Committed(R),
    /// The answer is an error, and nothing was committed.
    RolledBack(R),
    /// It was not committed, or it can't be told whether it was: whatever the handler answered must
    /// not be sent. The handler may not have come to its end.
    Failed(Error),
}

impl Transaction {
    /// For one request.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Begins the transaction, within what is left of the request's time. Drop the handle before
    /// the request is answered.
    ///
    /// # Errors
    ///
    /// As a checkout for [`Pool::run_tx`](crate::Pool::run_tx); and a [`Problem`], inside of
    /// [`Error::User`], if the time is over or the request has a transaction already.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future begins nothing, and leaks nothing.
    pub async fn begin<P: WebPool>(&self, pool: &P, left: TimeLeft) -> Result<P::Tx, Error> {
        let limit = left.begin().map_err(Error::user)?;
        if self.lock().taken {
            return Err(second());
        }
        let (give, mut taken) = oneshot::channel();
        let (verdict, told) = oneshot::channel();
        let moved = Arc::new(AtomicWaker::new());
        let hold = Hold::new(give, told, moved.clone());
        let mut driven: BoxFuture<'static, _> = Box::pin(pool.transact(limit, hold));
        let tx = poll_fn(|cx| {
            if let Poll::Ready(ended) = driven.as_mut().poll(cx) {
                return Poll::Ready(Err(ended.err().unwrap_or(Error::Closed)));
            }
            pin!(&mut taken).poll(cx).map_err(|_| Error::Closed)
        })
        .await?;
        let mut seat = self.lock();
        if seat.taken {
            return Err(second());
        }
        seat.taken = true;
        seat.running = Some(Running {
            driven,
            verdict,
            moved,
        });
        let waker = seat.waker.take();
        drop(seat);
        if let Some(waker) = waker {
            waker.wake();
        }
        Ok(tx)
    }

    /// Lets the handler run, and ends its transaction by its answer: COMMIT for a success, ROLLBACK
    /// for anything else. So an answer that tells of a success leaves after its COMMIT.
    ///
    /// When the transaction ends before the handler, because its host was given up or its time is
    /// over, the handler is dropped as in `run_tx`: its answer could be no success any more.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future, also by a panic of the handler, closes the connection: the server rolls
    /// back. Once COMMIT has been sent, dropping it leaves unknown whether it happened.
    pub async fn around<R>(
        self,
        handler: impl Future<Output = R>,
        is_success: impl FnOnce(&R) -> bool,
    ) -> Ended<R> {
        let mut handler = pin!(handler);
        let mut running = None;
        // Only a handler that was woken may have sent something.
        let awake = Awake::new();
        let waker = Waker::from(awake.clone());
        let answered = poll_fn(|cx| {
            let has_moved = awake.take(cx);
            if has_moved {
                let mut own = Context::from_waker(&waker);
                if let Poll::Ready(answer) = handler.as_mut().poll(&mut own) {
                    return Poll::Ready(Ok(answer));
                }
            }
            let is_new = running.is_none();
            if is_new {
                running = self.take(Some(cx));
            }
            let Some(Running { driven, moved, .. }) = &mut running else {
                return Poll::Pending;
            };
            if is_new {
                // Until now it woke the handler, who began it.
                if let Poll::Ready(ended) = driven.as_mut().poll(cx) {
                    return Poll::Ready(Err(ended));
                }
            }
            if has_moved {
                moved.wake();
            }
            driven.as_mut().poll(cx).map(Err)
        });
        let answer = match answered.await {
            Ok(answer) => answer,
            // It ends by itself only when it fails.
            Err(ended) => return Ended::Failed(ended.err().unwrap_or(Error::Closed)),
        };
        let Some(Running {
            driven, verdict, ..
        }) = running.or_else(|| self.take(None))
        else {
            return Ended::Without(answer);
        };
        if is_success(&answer) {
            // If it has ended by itself, that says how.
            let _ = verdict.send(Verdict::Commit);
            match driven.await {
                Ok(()) => Ended::Committed(answer),
                Err(error) => Ended::Failed(error),
            }
        } else {
            let _ = verdict.send(Verdict::RollBack);
            // Whatever is wrong with it, it is not committed.
            let _ = driven.await;
            Ended::RolledBack(answer)
        }
    }

    /// Whether the request has begun it, and nobody has ended it: what is asked inside of
    /// [`around`](Self::around) stands before its COMMIT.
    #[must_use]
    pub fn is_begun(&self) -> bool {
        self.lock().taken
    }

    fn take(&self, cx: Option<&mut Context<'_>>) -> Option<Running> {
        let mut seat = self.lock();
        let running = seat.running.take();
        if let (None, false, Some(cx)) = (&running, seat.taken, cx) {
            match &mut seat.waker {
                Some(waker) => waker.clone_from(cx.waker()),
                none => *none = Some(cx.waker().clone()),
            }
        }
        running
    }

    fn lock(&self) -> MutexGuard<'_, Seat> {
        self.seat.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn second() -> Error {
    Error::user(Problem::misassembled(
        "This route asks for two transactions: a request has one.",
    ))
}

impl fmt::Debug for Transaction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Transaction")
            .field("taken", &self.lock().taken)
            .finish_non_exhaustive()
    }
}
