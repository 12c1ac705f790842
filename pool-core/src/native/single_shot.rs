//! A transaction of one statement, in one round trip.
//!
//! BEGIN, the statement, the question for evidence, a token and COMMIT are sent together. The
//! server does them one after the other, so whatever fails keeps COMMIT from happening: `SHOW` in
//! front of it is refused in a transaction that has failed.

use std::{future::pending, pin::Pin, sync::Arc};

use deadpool_postgres::Client;
use futures_util::{
    FutureExt as _,
    future::{MaybeDone, OptionFuture, maybe_done, try_join4},
};
use tokio_postgres::{
    Row, Statement,
    error::{DbError, SqlState},
    types::ToSql,
};
use uuid::Uuid;

use super::{
    Native, Pool, TxBuilder,
    attempt::{Begun, roll_back},
    burst::{Answer, Answers, Burst, Parameters},
    capture::{EVIDENCE, evidence},
    commit::send_commit,
    lease::Lease,
    session::{SESSION, Session, Sessions},
};
use crate::{
    error::{Disposition, Error},
    outcome::{Doubt, Evidence, TokenTable},
    pool::SubPools,
    topology::Lsn,
    tx::{Commit, Failure, Options, Try, TxAttempt},
};

impl Pool {
    /// Runs a transaction of one statement in one round trip, and says how many rows it touched.
    ///
    /// BEGIN, the statement, evidence and COMMIT are sent together; [`run_tx`](Self::run_tx) takes
    /// two round trips for that, and by hand it is three. It is repeated as `run_tx` repeats, and
    /// like it once or not at all. What it gives up is proof: if the connection is lost before
    /// anything was answered, the transaction's id is not known, and without a [table of
    /// tokens](crate::manual::commit) the outcome is [unknown](Error::Unknown). With one it is found
    /// out as ever.
    ///
    /// The statement is prepared once for each connection, which takes one round trip more there;
    /// one that a changed table has made stale is prepared anew.
    ///
    /// # Errors
    ///
    /// As [`run_tx`](Self::run_tx), and
    ///
    /// - [`Error::AnswerLost`]: committed, but how many rows that were is lost.
    ///
    /// # Cancel safety
    ///
    /// As that of [`run_tx`](Self::run_tx) once COMMIT has been sent: dropping the future closes
    /// the connection and leaves unknown whether it happened.
    ///
    /// # Examples
    ///
    /// ```no_run
    /// # async fn f(pool: leadpool::Pool, id: i64) -> Result<(), leadpool::Error> {
    /// let sold = pool
    ///     .execute_tx("UPDATE stock SET n = n - 1 WHERE id = $1 AND n > 0", &[&id])
    ///     .await?;
    /// println!("{}", if sold == 1 { "yours" } else { "out of stock" });
    /// # Ok(())
    /// # }
    /// ```
    pub async fn execute_tx(
        &self,
        sql: &str,
        params: &[&(dyn ToSql + Sync)],
    ) -> Result<u64, Error> {
        self.tx().execute(sql, params).await
    }

    /// Runs a transaction of one statement in one round trip, and returns its rows: see
    /// [`execute_tx`](Self::execute_tx).
    ///
    /// # Errors
    ///
    /// As [`execute_tx`](Self::execute_tx).
    ///
    /// # Cancel safety
    ///
    /// As [`execute_tx`](Self::execute_tx).
    ///
    /// # Examples
    ///
    /// ```no_run
    /// # async fn f(pool: leadpool::Pool) -> Result<i64, leadpool::Error> {
    /// let rows = pool
    ///     .query_tx("INSERT INTO orders (item) VALUES ($1) RETURNING id", &[&"chair"])
    ///     .await?;
    /// Ok(rows[0].get(0))
    /// # }
    /// ```
    pub async fn query_tx(
        &self,
        sql: &str,
        params: &[&(dyn ToSql + Sync)],
    ) -> Result<Vec<Row>, Error> {
        self.tx().query(sql, params).await
    }
}

impl TxBuilder<'_> {
    /// Runs the transaction as one statement: see [`Pool::execute_tx`].
    ///
    /// # Errors
    ///
    /// As [`Pool::execute_tx`].
    ///
    /// # Cancel safety
    ///
    /// As [`Pool::execute_tx`].
    pub async fn execute(self, sql: &str, params: &[&(dyn ToSql + Sync)]) -> Result<u64, Error> {
        Ok(self.run_at_once(sql, params).await?.count)
    }

    /// Runs the transaction as one statement: see [`Pool::query_tx`]. For one that only reads, say
    /// [`read_only`](Self::read_only): then nothing is written for it.
    ///
    /// # Errors
    ///
    /// As [`Pool::execute_tx`].
    ///
    /// # Cancel safety
    ///
    /// As [`Pool::execute_tx`].
    pub async fn query(self, sql: &str, params: &[&(dyn ToSql + Sync)]) -> Result<Vec<Row>, Error> {
        Ok(self.run_at_once(sql, params).await?.rows)
    }

    async fn run_at_once(self, sql: &str, params: &Parameters<'_>) -> Result<Answer, Error> {
        let pools = self.pool.sub_pools();
        let sessions = self.pool.sessions();
        let options = &self.options;
        let transactions = self.pool.transactions();
        transactions
            .run(pools, options, |this| {
                attempt(pools, sessions, options, sql, params, this)
            })
            .await
    }
}

/// One attempt.
///
/// # Cancel safety
///
/// Dropping the future closes the connection; what has been sent by then may be committed.
async fn attempt(
    pools: &SubPools<Native>,
    sessions: &Sessions,
    options: &Options,
    sql: &str,
    parameters: &Parameters<'_>,
    this: Try,
) -> Result<Answer, Failure> {
    let (client, mut attempt) = TxAttempt::begin(pools, pools, options, this).await?;
    let lease = Lease::new(client);
    let tokens = attempt.cluster().config().tx().token_table.as_ref();
    let wanted = attempt.needs_evidence().then_some(tokens);
    let preparing = attempt.watch(prepare(lease.client(), sessions, sql, wanted));
    let prepared = match preparing.await? {
        Ok(prepared) => prepared,
        Err(error) => {
            if !lease.client().is_closed() {
                lease.release();
            }
            return Err(attempt.failure(error.into()));
        }
    };
    let mut begun = match Begun::send(lease.client(), options) {
        Ok(begun) => begun,
        Err(error) => return Err(attempt.failure(error.into())),
    };
    let token = prepared.insert.as_ref().map(|_| Uuid::new_v4());
    let untold = prepared
        .session
        .as_deref()
        .zip(token)
        .map(|(session, token)| untold(&attempt, session, token));
    let left = prepared.insert.clone().zip(token);
    let committing = send_commit(lease.clone(), left, attempt.guarded_commit(), None);
    let mut committing = Box::pin(maybe_done(committing));
    let burst = Burst {
        client: lease.client(),
        statement: &prepared.statement,
        question: prepared.question.as_ref(),
        parameters,
    };
    // Whoever can still find out takes the time for it.
    let enough = async {
        match &untold {
            Some(_) => attempt.while_there_is_time().await,
            None => pending().await,
        }
    };
    let exchanged = burst
        .exchange(&attempt, enough, committing.as_mut())
        .await?;
    let (answer, row) = match exchanged {
        Answers::Come(answer, row) => (answer, row),
        Answers::Refused(error, has_run) => {
            drop(committing);
            return Err(refused(&attempt, lease, begun, error, has_run));
        }
        Answers::NotSent(error) => {
            drop(committing);
            roll_back(lease);
            return Err(attempt.failure(error.into()));
        }
        Answers::Lost(answer, source) => {
            drop((committing, lease));
            let doubt = match wanted {
                Some(_) => Doubt::Untold,
                None => Doubt::NoEvidence,
            };
            attempt.lost_untold(untold, doubt, Some(source)).await?;
            let host = attempt.generation().host().clone();
            return answer.ok_or_else(|| attempt.failure(Error::AnswerLost { host }));
        }
    };
    // It was answered before the others, so there is nothing to wait for; and nothing that ends the
    // wait for it could say any more that nothing was committed.
    if let Some(Err(begin)) = begun.answered().now_or_never() {
        let error = begun.refused(begin, attempt.generation());
        drop(committing);
        roll_back(lease);
        return Err(attempt.failure(error));
    }
    if wanted.is_some() {
        let host = attempt.generation().host();
        let found = row.zip(prepared.session);
        let found = found.and_then(|(row, session)| evidence(host, &session, &row));
        attempt.set_evidence(found, token);
    }
    drop(lease);
    attempt.commit(committed(committing)).await?;
    Ok(answer)
}

/// Ends an attempt in good order of which the server has refused the statement, or the question if
/// that `has_run`.
fn refused(
    attempt: &TxAttempt<'_, SubPools<Native>>,
    lease: Arc<Lease>,
    mut begun: Begun,
    error: tokio_postgres::Error,
    has_run: bool,
) -> Failure {
    let begin = begun.answered().now_or_never().and_then(Result::err);
    let is_stale = is_stale(&error);
    if is_stale {
        lease.client().statement_cache.clear();
    }
    roll_back(lease);
    let error = match begin {
        Some(begin) if has_run => begun.refused(begin, attempt.generation()),
        // What stood behind it failed too.
        Some(begin) => begin.into(),
        None => error.into(),
    };
    match is_stale {
        true => attempt.with_disposition(error, Disposition::RetryHere),
        false => attempt.failure(error),
    }
}

/// What a connection is asked once.
struct Prepared {
    statement: Statement,
    question: Option<Statement>,
    insert: Option<Statement>,
    session: Option<Arc<Session>>,
}

/// Prepares what is not prepared yet, in one go.
async fn prepare(
    client: &Client,
    sessions: &Sessions,
    sql: &str,
    wanted: Option<Option<&TokenTable>>,
) -> Result<Prepared, tokio_postgres::Error> {
    let known = sessions.get(client);
    let insert = wanted.flatten().map(TokenTable::insert);
    let question = OptionFuture::from(wanted.map(|_| client.prepare_cached(EVIDENCE)));
    let insert = OptionFuture::from(insert.as_ref().map(|insert| client.prepare_cached(insert)));
    let is_new = wanted.is_some() && known.is_none();
    let session = OptionFuture::from(is_new.then(|| client.query_one(SESSION, &[])));
    let (statement, question, insert, asked) = try_join4(
        client.prepare_cached(sql),
        question.map(Option::transpose),
        insert.map(Option::transpose),
        session.map(Option::transpose),
    )
    .await?;
    let asked = asked.and_then(|row| Session::read(&row)).map(Arc::new);
    if let Some(session) = &asked {
        sessions.insert(client, session.clone());
    }
    Ok(Prepared {
        statement,
        question,
        insert,
        session: known.or(asked),
    })
}

/// The answer to COMMIT, which was sent before.
async fn committed<F: Future<Output = Commit>>(mut committing: Pin<Box<MaybeDone<F>>>) -> Commit {
    committing.as_mut().await;
    let ended = committing.as_mut().take_output();
    ended.unwrap_or(Commit::Lost(None))
}

/// What is known of a transaction before anything of it is sent: only its token can prove it.
fn untold(attempt: &TxAttempt<'_, SubPools<Native>>, session: &Session, token: Uuid) -> Evidence {
    Evidence {
        host: attempt.generation().host().clone(),
        system_identifier: None,
        incarnation: session.incarnation.clone(),
        transaction: 0,
        marker: Lsn::new(0),
        flushed: Lsn::new(0),
        backend: session.backend,
        began_at: session.server_time(),
        token: Some(token),
    }
}

/// Whether what was prepared does not fit any more: a table has changed since, or somebody has
/// thrown the server's prepared statements away.
fn is_stale(error: &tokio_postgres::Error) -> bool {
    error.code() == Some(&SqlState::INVALID_SQL_STATEMENT_NAME)
        || error.as_db_error().and_then(DbError::routine) == Some("RevalidateCachedQuery")
}
