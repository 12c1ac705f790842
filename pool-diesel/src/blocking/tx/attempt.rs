//! One attempt of a transaction over libpq.

use std::sync::Arc;

use leadpool::adapter::{Commit, Failure, Options, Try, TxAttempt};
use tokio::{sync::oneshot, task::spawn_blocking};

use super::hands::{Hands, Job, Worked, commit};
use crate::blocking::{PooledConnection, inner::Inner, socket::Kill};

/// Runs a transaction, with the closure in the thread that `hands` have.
///
/// # Cancel safety
///
/// As [`attempt`].
pub(super) async fn drive(
    inner: Arc<Inner>,
    options: Options,
    hands: impl Hands,
) -> Result<(), leadpool::Error> {
    let attempt = |this| attempt(&inner, &options, &hands, this);
    inner
        .transactions
        .run(&inner.sub_pools, &options, attempt)
        .await
}

/// One attempt: checkout; BEGIN, the closure, and the question for evidence; COMMIT.
///
/// # Cancel safety
///
/// Dropping the future shuts the connection down, so that the server rolls back, unless COMMIT has
/// been sent, when it does the one or the other.
async fn attempt(
    inner: &Inner,
    options: &Options,
    hands: &impl Hands,
    this: Try,
) -> Result<(), Failure> {
    let begun = TxAttempt::begin(&inner.sub_pools, &inner.resolver, options, this);
    let (object, mut attempt) = begun.await?;
    let lease: PooledConnection = PooledConnection::new(object, false);
    let socket = lease.socket();
    let kill = Kill::new(socket.clone());
    let asks = attempt.needs_evidence();
    let (reply, answer) = oneshot::channel();
    hands.take(Job {
        lease,
        begin: options.begin_sql(),
        asks,
        fuse: kill.fuse(),
        reply,
    });
    let worked = attempt.watch(answer).await?;
    let (lease, answer) = match worked {
        Ok(Worked::Ready { lease, answer }) => (lease, answer),
        Ok(Worked::Nested) => return Ok(()),
        Ok(Worked::Failed(error)) => return Err(attempt.failure(error)),
        // The closure has panicked, and nobody waits for more.
        Err(_) => return Err(attempt.failure(leadpool::Error::Closed)),
    };
    attempt.generation().heard();
    let is_asked = answer.is_some();
    match answer {
        Some(Ok(answer)) => attempt.note_evidence(Ok(&answer))?,
        Some(Err(error)) => attempt.note_evidence(Err(error))?,
        None => {}
    }
    let (reply, answer) = oneshot::channel();
    let sql = attempt.commit_sql().text;
    let kill = Kill::new(socket);
    let committing = async move {
        let fuse = kill.fuse();
        // It ends with the connection, which is shut down when it is given up.
        drop(spawn_blocking(move || {
            commit(lease, &sql, is_asked, fuse, reply);
        }));
        let ended = answer.await;
        drop(kill);
        ended.unwrap_or(Commit::Lost(None))
    };
    attempt.commit(committing).await
}
