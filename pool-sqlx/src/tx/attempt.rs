//! One attempt of a transaction over sqlx.

use futures_util::StreamExt as _;
use leadpool::adapter::{Commit, CommitSql, Failure, Options, QUESTION, SIGN, Try, TxAttempt};
use sqlx::{AssertSqlSafe, Database, Either, Executor as _, Postgres, Row as _, SqlSafeStr as _};
use sqlx_core::transaction::TransactionManager as _;

use super::Tx;
use crate::{error::into_pool, lease::Lease, pool::Inner, repeat::is_lost};

type Manager = <Postgres as Database>::TransactionManager;

/// One attempt: checkout, BEGIN, the closure, the question for evidence, COMMIT.
///
/// # Cancel safety
///
/// Dropping the future closes the connection: the server rolls back, unless COMMIT has been sent,
/// when it does the one or the other.
pub(super) async fn attempt<T, F, Fut>(
    pool: &Inner,
    options: &Options,
    closure: F,
    this: Try,
) -> Result<T, Failure>
where
    F: FnOnce(Tx) -> Fut,
    Fut: Future<Output = Result<T, leadpool::Error>>,
{
    let begun = TxAttempt::begin(&pool.sub_pools, &pool.resolver, options, this);
    let (conn, mut attempt) = begun.await?;
    let mut lease = Lease::new(conn);
    let sql = AssertSqlSafe(options.begin_sql().into_owned()).into_sql_str();
    // By sqlx's own way, so that it knows the depth for savepoints.
    let begun = attempt.watch(Manager::begin(&mut lease, Some(sql))).await?;
    if let Err(error) = begun {
        if is_lost(&error) {
            pool.sub_pools.driver().test_idle(attempt.generation());
        }
        return Err(attempt.failure(into_pool(error)));
    }
    attempt.generation().heard();
    let (tx, slot) = Tx::lend(lease);
    let outcome = attempt.watch(closure(tx)).await?;
    let Some(mut lease) = slot.take() else {
        return Err(attempt.failure(outcome.err().unwrap_or(leadpool::Error::Escaped)));
    };
    let value = match outcome {
        Ok(value) => value,
        Err(error) => {
            roll_back(lease);
            return Err(attempt.failure(error));
        }
    };
    if attempt.needs_evidence() {
        let asked = attempt.watch(ask(&mut lease)).await?;
        let is_gone = asked.as_ref().is_err_and(is_lost);
        let answer = asked.map_err(into_pool);
        let noted = match answer {
            Ok(answer) => attempt.note_evidence(Ok(&answer)),
            Err(error) => attempt.note_evidence(Err(error)),
        };
        if let Err(failure) = noted {
            if !is_gone {
                roll_back(lease);
            }
            return Err(failure);
        }
    }
    // sqlx counts the depth of its transactions, and lowers it only with a statement. So the next
    // one is begun in the same message; it is rolled back behind this one, where nobody waits.
    let mut sql = attempt.commit_sql();
    sql.text.push_str(" AND CHAIN");
    attempt.commit(send_commit(lease, sql)).await?;
    Ok(value)
}

/// Ends the transaction; nobody waits for the answer, which is read when the connection is back in
/// its pool.
fn roll_back(mut lease: Lease) {
    if Manager::get_transaction_depth(&lease) == 1 {
        Manager::start_rollback(&mut lease);
        lease.release();
    }
}

async fn ask(lease: &mut Lease) -> Result<String, sqlx::Error> {
    let row = sqlx::query(QUESTION).fetch_one(&mut **lease).await?;
    row.try_get(0)
}

/// Sends COMMIT and what stands before it as one message.
async fn send_commit(mut lease: Lease, sql: CommitSql) -> Commit {
    let mut completed = 0;
    let mut is_ours = false;
    let mut failed = None;
    {
        let mut answers = (&mut *lease).fetch_many(AssertSqlSafe(sql.text));
        while let Some(answer) = answers.next().await {
            match answer {
                Ok(Either::Left(_)) => completed += 1,
                Ok(Either::Right(row)) => {
                    is_ours = row.try_get::<&str, _>(0).is_ok_and(|sign| sign == SIGN);
                }
                Err(error) => failed = Some(error),
            }
        }
    }
    match failed {
        // The COMMIT tag counts, whatever comes behind it.
        _ if completed >= sql.statements => {
            roll_back(lease);
            match is_ours {
                true => Commit::Done,
                false => Commit::NotOurs,
            }
        }
        Some(error @ sqlx::Error::Database(_)) => {
            if !is_lost(&error) {
                roll_back(lease);
            }
            Commit::Refused(into_pool(error))
        }
        failed => Commit::Lost(failed.map(Into::into)),
    }
}
