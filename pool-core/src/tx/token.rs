//! What a read must have seen in order to see a transaction, for drivers that can't ask for that in
//! the same go as COMMIT.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use tokio::time::Instant;

use super::{Resolve, TxAttempt};
use crate::{
    consistency::ConsistencyToken,
    monitor::{Cluster, vantage},
};

/// How long the question may take: the COMMIT stands, and a token of the writer will do as well.
const SOON: Duration = Duration::from_secs(1);

/// Where the token of a transaction is found once that is committed: see
/// [`Options::ask_for_token`](super::Options::ask_for_token).
#[derive(Clone, Debug, Default)]
pub struct TokenSlot(Arc<Mutex<Option<ConsistencyToken>>>);

impl TokenSlot {
    /// What a read must have seen in order to see the transaction. A token [of the
    /// writer](ConsistencyToken::of_writer) where its position could not be had.
    #[must_use]
    pub fn take(&self, cluster: &Cluster) -> ConsistencyToken {
        let token = self.0.lock().unwrap_or_else(PoisonError::into_inner).take();
        token.unwrap_or_else(|| ConsistencyToken::of_writer(cluster.topology().system_identifier))
    }

    fn put(&self, token: ConsistencyToken) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(token);
    }
}

/// What is to be asked when a COMMIT stands.
pub(super) struct Whereabouts<'a> {
    cluster: &'a Cluster,
    slot: &'a TokenSlot,
    /// That of the writer to which COMMIT is sent.
    timeline: Option<u32>,
    deadline: Instant,
}

impl<'a> Whereabouts<'a> {
    /// To be made before COMMIT is sent; `None` if nobody wants to know.
    pub(super) fn of<R: Resolve>(attempt: &TxAttempt<'a, R>) -> Option<Self> {
        let (slot, cluster) = (attempt.options.slot.as_ref()?, attempt.cluster());
        let timeline = match &attempt.evidence {
            Some(Some(evidence)) => Some(evidence.incarnation.timeline),
            _ => vantage(&cluster.topology()).timeline,
        };
        Some(Self {
            cluster,
            slot,
            timeline,
            deadline: attempt.deadline,
        })
    }

    /// Asks the writer. What another one has by now need not be what was committed.
    pub(super) async fn ask(self) {
        let left = self.deadline.saturating_duration_since(Instant::now());
        match self.cluster.timeout_token(SOON.min(left)).await {
            Ok(token) if token.timeline() == self.timeline => self.slot.put(token),
            _ => {}
        }
    }
}
