//! Tokens that are still good, and one fetch for all who wait for the next.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use tokio::time::Instant;

use super::{CredentialError, Secret};
use crate::topology::HostAddr;

/// What a token is for.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Key {
    pub(super) host: HostAddr,
    pub(super) user: String,
    pub(super) region: String,
}

/// A new token, and how long to use it.
pub(super) struct Fresh {
    pub(super) token: Secret,
    pub(super) kept: Duration,
}

/// The tokens of all hosts.
#[derive(Default)]
pub(super) struct Cache {
    slots: Mutex<HashMap<Key, Arc<Slot>>>,
}

/// The token of one host.
#[derive(Default)]
struct Slot {
    /// How many fetches have come to an end.
    fetches: AtomicU64,
    /// Held while a token is being fetched.
    last: tokio::sync::Mutex<Last>,
}

/// What came of the last fetch.
#[derive(Default)]
enum Last {
    #[default]
    Nothing,
    Token(Secret, Instant),
    Failure(CredentialError),
}

impl Cache {
    /// The token that is kept, unless it is old or the `rejected` one; else what `fetch` brings.
    ///
    /// One fetch serves all who ask meanwhile, also if it fails. If whoever began it has no more
    /// time, the next one begins another: so each is bounded by the deadline of its caller.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future drops the fetch that it has begun.
    pub(super) async fn get<F>(
        &self,
        key: &Key,
        rejected: Option<&Secret>,
        fetch: impl FnOnce() -> F,
    ) -> Result<Secret, CredentialError>
    where
        F: Future<Output = Result<Fresh, CredentialError>>,
    {
        let slot = self.slot(key);
        let seen = slot.fetches.load(Ordering::Acquire);
        let mut last = slot.last.lock().await;
        match &*last {
            Last::Token(token, end) if Instant::now() < *end && Some(token) != rejected => {
                return Ok(token.clone());
            }
            Last::Failure(failure) if slot.fetches.load(Ordering::Acquire) > seen => {
                return Err(failure.clone());
            }
            _ => {}
        }
        let begun = Instant::now();
        let fetched = fetch().await;
        slot.fetches.fetch_add(1, Ordering::AcqRel);
        match fetched {
            Ok(Fresh { token, kept }) => {
                *last = Last::Token(token.clone(), begun + kept);
                Ok(token)
            }
            Err(failure) => {
                *last = Last::Failure(failure.clone());
                Err(failure)
            }
        }
    }

    fn slot(&self, key: &Key) -> Arc<Slot> {
        let mut slots = self.slots.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(slot) = slots.get(key) {
            return slot.clone();
        }
        // Hosts come and go; those of former ones are old by now.
        slots.retain(|_, slot| Arc::strong_count(slot) > 1 || !slot.is_old());
        slots.entry(key.clone()).or_default().clone()
    }
}

impl Slot {
    fn is_old(&self) -> bool {
        match self.last.try_lock().as_deref() {
            Ok(Last::Token(_, end)) => Instant::now() >= *end,
            Ok(_) => true,
            Err(_) => false,
        }
    }
}
