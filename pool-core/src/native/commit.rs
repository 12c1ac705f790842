//! COMMIT over tokio-postgres.

use std::{
    pin::{Pin, pin},
    sync::Arc,
    time::Duration,
};

use futures_util::{StreamExt as _, future::join};
use tokio::time::timeout;
use tokio_postgres::{SimpleQueryMessage, SimpleQueryStream, Statement};
use uuid::Uuid;

use super::{
    attempt::{Ready, roll_back, send},
    lease::Lease,
};
use crate::{
    consistency::ConsistencyToken,
    error::{Disposition, TxPhase},
    topology::Lsn,
    tx::{Commit, Failure, SIGN},
};

/// Sent behind COMMIT, so it is answered when that has been done: a position at or after the end
/// of its record, and the name of a file that begins with the timeline.
const POSITION: &str = "\
SELECT pg_catalog.pg_walfile_name(position), position \
FROM pg_catalog.pg_current_wal_insert_lsn() AS position";
/// How long its answer may take after that to COMMIT, which it follows at once.
const SOON: Duration = Duration::from_secs(1);

/// Sends COMMIT and finds out what became of it.
pub(super) async fn commit(ready: Ready<'_>) -> Result<(), Failure> {
    send_and_resolve(ready, None).await
}

/// The same, and what a read must have seen in order to see it.
pub(super) async fn commit_with_token(ready: Ready<'_>) -> Result<ConsistencyToken, Failure> {
    let host = ready.attempt.generation().host().clone();
    let cluster = ready.attempt.cluster();
    let mut behind = Behind::default();
    send_and_resolve(ready, Some(&mut behind)).await?;
    let id = cluster.history().system_identifier(&host);
    let id = id.or_else(|| cluster.topology().system_identifier);
    // The COMMIT stands, whatever becomes of this.
    Ok(match behind.position().await {
        Some((timeline, position)) => ConsistencyToken::of_insert(id, timeline, position),
        None => ConsistencyToken::of_writer(id),
    })
}

async fn send_and_resolve(ready: Ready<'_>, behind: Option<&mut Behind>) -> Result<(), Failure> {
    let Ready {
        attempt,
        lease,
        insert,
    } = ready;
    if lease.client().is_closed() {
        return Err(attempt.commit_lost(None));
    }
    let left = insert.zip(attempt.token());
    let commit = attempt.guarded_commit();
    attempt
        .commit(send_commit(lease, left, commit, behind))
        .await
}

/// What was asked behind COMMIT, once that is done.
#[derive(Default)]
pub(super) struct Behind {
    asked: Option<(Arc<Lease>, Pin<Box<SimpleQueryStream>>)>,
}

impl Behind {
    async fn position(self) -> Option<(u32, Lsn)> {
        let (lease, mut answers) = self.asked?;
        let reading = async {
            let mut found = None;
            while let Some(answer) = answers.next().await {
                if let SimpleQueryMessage::Row(row) = answer.ok()? {
                    found = read(row.get(0)?, row.get(1)?);
                }
            }
            found
        };
        // Without an answer the connection is closed.
        let found = timeout(SOON, reading).await.ok()?;
        lease.release();
        found
    }
}

fn read(file: &str, position: &str) -> Option<(u32, Lsn)> {
    let timeline = u32::from_str_radix(file.get(..8)?, 16).ok()?;
    Some((timeline, position.parse().ok()?))
}

/// Sends the token, COMMIT and the question behind it in one go, and reads the answers to the
/// first two.
pub(super) async fn send_commit(
    lease: Arc<Lease>,
    token: Option<(Statement, Uuid)>,
    commit: &str,
    behind: Option<&mut Behind>,
) -> Commit {
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
    let mut asked = None;
    let asks = behind.is_some();
    let committing = async {
        let mut answers = pin!(send(client, commit)?);
        if asks {
            // If it can't be sent, the COMMIT is not answered either.
            asked = send(client, POSITION).ok().map(Box::pin);
        }
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
            match behind.zip(asked) {
                Some((behind, asked)) => behind.asked = Some((lease, asked)),
                None => lease.release(),
            }
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
