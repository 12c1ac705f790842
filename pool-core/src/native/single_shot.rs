//! A transaction of one statement, in one round trip.
//!
//! BEGIN, the statement, the question for evidence, a token and COMMIT are sent together. The
//! server does them one after the other, so whatever fails keeps COMMIT from happening: `SHOW` in
//! front of it is refused in a transaction that has failed.

use std::{
    future::{pending, poll_fn},
    pin::{Pin, pin},
    sync::Arc,
    task::Poll,
};

use deadpool_postgres::Client;
use futures_util::{
    FutureExt as _, TryStreamExt as _,
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
    capture::{EVIDENCE, evidence},
    commit::send_commit,
    lease::Lease,
    session::{SESSION, Session, Sessions},
};
use crate::{
    error::{BoxError, Disposition, Error},
    outcome::{Doubt, Evidence, TokenTable},
    pool::SubPools,
    topology::Lsn,
    tx::{Commit, Failure, Options, Try, TxAttempt},
};

/// Values for the placeholders of a statement.
type Parameters<'a> = [&'a (dyn ToSql + Sync)];

/// What a statement gave back.
struct Answer {
    rows: Vec<Row>,
    /// As the server counts them: of an INSERT, UPDATE or DELETE those that it touched.
    count: u64,
}

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
        prepared: &prepared,
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

/// What goes out together, behind BEGIN.
struct Burst<'a> {
    client: &'a Client,
    prepared: &'a Prepared,
    parameters: &'a Parameters<'a>,
}

impl Burst<'_> {
    /// Sends the statement, the question and COMMIT, and waits for the answers to the first two,
    /// until it is `enough`.
    ///
    /// # Errors
    ///
    /// The attempt ended before anything was sent.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future leaves the answers to be read: the connection must be closed.
    async fn exchange(
        &self,
        attempt: &TxAttempt<'_, SubPools<Native>>,
        enough: impl Future<Output = ()>,
        mut committing: Pin<&mut impl Future<Output = ()>>,
    ) -> Result<Answers, Failure> {
        let question = self.prepared.question.as_ref();
        let asking = question.map(|question| self.client.query_one(question, &[]));
        let mut asking = pin!(maybe_done(OptionFuture::from(asking)));
        let mut running = pin!(maybe_done(self.run()));
        let mut is_sent = false;
        // Whatever is polled for the first time is sent, so they are sent in this order.
        let both = poll_fn(|cx| {
            let has_run = running.as_mut().poll(cx).is_ready();
            if !is_sent && has_run {
                // Its values could not be put into words, or the connection is closed.
                return Poll::Ready(());
            }
            let has_answered = asking.as_mut().poll(cx).is_ready();
            if !is_sent {
                // It is answered last, so it is asked again when the others have ended.
                let _ = committing.as_mut().poll(cx);
                is_sent = true;
            }
            match has_run && has_answered {
                true => Poll::Ready(()),
                false => Poll::Pending,
            }
        });
        let waited = attempt.watch(async {
            tokio::select! {
                biased;
                () = both => {}
                () = enough => {}
            }
        });
        let waited = waited.await;
        let ran = running.as_mut().take_output();
        let asked = asking.as_mut().take_output().flatten();
        match waited {
            Ok(()) if is_sent => Ok(Answers::of(ran, asked, question.is_some())),
            Ok(()) => Ok(Answers::not_sent(ran)),
            Err(failure) if is_sent => {
                let answer = ran.and_then(Result::ok);
                Ok(Answers::Lost(answer, failure.error.into()))
            }
            Err(failure) => Err(failure),
        }
    }

    async fn run(&self) -> Ran {
        let values = self.parameters.iter().copied();
        let running = self.client.query_raw(&self.prepared.statement, values);
        let mut answers = pin!(running.await?);
        let mut rows = Vec::new();
        while let Some(row) = answers.try_next().await? {
            rows.push(row);
        }
        let count = answers.rows_affected().unwrap_or_default();
        Ok(Answer { rows, count })
    }
}

/// What came of the statement and the question.
enum Answers {
    Come(Answer, Option<Row>),
    /// The server refused one of them, so the transaction too; and whether the statement had run.
    Refused(tokio_postgres::Error, bool),
    NotSent(tokio_postgres::Error),
    /// No answer to one of them; perhaps there was one to the statement.
    Lost(Option<Answer>, BoxError),
}

type Ran = Result<Answer, tokio_postgres::Error>;
type Asked = Result<Row, tokio_postgres::Error>;

impl Answers {
    fn not_sent(ran: Option<Ran>) -> Self {
        match ran {
            Some(Err(error)) => Self::NotSent(error),
            ran => Self::of(ran, None, true),
        }
    }

    fn of(ran: Option<Ran>, asked: Option<Asked>, is_asked: bool) -> Self {
        match (ran, asked) {
            (Some(Err(error)), _) if error.as_db_error().is_some() => Self::Refused(error, false),
            (Some(Err(error)), _) => Self::Lost(None, error.into()),
            (Some(Ok(_)), Some(Err(error))) if error.as_db_error().is_some() => {
                Self::Refused(error, true)
            }
            (Some(Ok(answer)), Some(Err(error))) => Self::Lost(Some(answer), error.into()),
            (Some(Ok(answer)), Some(Ok(row))) => Self::Come(answer, Some(row)),
            (Some(Ok(answer)), None) if !is_asked => Self::Come(answer, None),
            (ran, _) => Self::Lost(ran.and_then(Result::ok), "not answered in time".into()),
        }
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
