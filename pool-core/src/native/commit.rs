//! COMMIT over tokio-postgres.

use std::{pin::pin, sync::Arc};

use futures_util::{StreamExt as _, future::join};
use tokio_postgres::{SimpleQueryMessage, Statement};
use uuid::Uuid;

use super::{
    Native,
    attempt::{roll_back, send},
    lease::Lease,
};
use crate::{
    error::{Disposition, TxPhase},
    pool::SubPools,
    tx::{Commit, Failure, SIGN, TxAttempt},
};

/// Sends COMMIT and finds out what became of it.
pub(super) async fn commit(
    attempt: TxAttempt<'_, SubPools<Native>>,
    lease: Arc<Lease>,
    insert: Option<Statement>,
) -> Result<(), Failure> {
    if lease.client().is_closed() {
        return Err(attempt.commit_lost(None));
    }
    let left = insert.zip(attempt.token());
    let commit = attempt.guarded_commit();
    attempt.commit(send_commit(lease, left, commit)).await
}

/// Sends the token and COMMIT in one go, and reads their answers.
async fn send_commit(lease: Arc<Lease>, token: Option<(Statement, Uuid)>, commit: &str) -> Commit {
    let client = lease.client();
    let leaving = async {
        match token {
            Some((insert, token)) => {
                let token = token.to_string();
                client.execute(&insert, &[&token]).await.map(drop)
            }
            None => Ok(()),
        }
    };
    let committing = async {
        let mut answers = pin!(send(client, commit)?);
        let mut completed = 0;
        let mut is_ours = false;
        // The COMMIT tag counts, whatever comes behind it.
        while completed < commit.split(';').count() {
            match answers.next().await {
                Some(Ok(SimpleQueryMessage::CommandComplete(_))) => completed += 1,
                Some(Ok(SimpleQueryMessage::Row(row))) => is_ours = row.get(0) == Some(SIGN),
                Some(Ok(_)) => {}
                Some(Err(error)) => return Err(Some(error)),
                None => return Err(None),
            }
        }
        Ok(is_ours)
    };
    // Polled in this order, so sent in this order.
    let (left, committed) = join(leaving, committing).await;
    // What was refused first is the reason for the rest.
    match left.map_err(Some).and(committed) {
        Ok(is_ours) => {
            lease.release();
            match is_ours {
                true => Commit::Done,
                false => Commit::NotOurs,
            }
        }
        Err(Some(error)) => {
            // The server has ended the transaction; a connection it is closing is not kept.
            match Disposition::of_driver(&error, TxPhase::CommitInFlight) {
                Disposition::Resolve => return Commit::Lost(Some(error.into())),
                Disposition::WaitTopology => {}
                _ => roll_back(lease),
            }
            Commit::Refused(error.into())
        }
        Err(None) => Commit::Lost(None),
    }
}
