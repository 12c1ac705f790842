//! What one request must have seen, and whether it has written.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::WebPool;
use crate::{
    consistency::{ConsistencyToken, Standing},
    error::Error,
    topology::Target,
};

/// What a request must have seen, and whether it has written: [`ReadYourWrites`] makes one for each
/// request, extractors and handlers use it.
///
/// Without that layer it is empty, and reads go wherever they would.
///
/// ```no_run
/// use leadpool::{Error, Pool, web::Seen};
///
/// async fn list(pool: &Pool, seen: &Seen) -> Result<u64, Error> {
///     let client = seen.checkout(pool, None).await?; // a standby that has it
///     Ok(client.execute("SELECT FROM orders", &[]).await?)
/// }
/// ```
///
/// [`ReadYourWrites`]: super::ReadYourWrites
#[derive(Clone, Debug, Default)]
pub struct Seen(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    token: Option<ConsistencyToken>,
    told: Option<ConsistencyToken>,
    is_written: bool,
    is_to_be_replaced: bool,
}

impl Seen {
    pub(super) fn new(token: Option<ConsistencyToken>, is_written: bool) -> Self {
        Self(Arc::new(Mutex::new(State {
            token,
            is_written,
            ..State::default()
        })))
    }

    /// What reads of this request must show, if there is something.
    #[must_use]
    pub fn token(&self) -> Option<ConsistencyToken> {
        self.lock().token
    }

    /// Says that the request writes, whatever its method is.
    pub fn has_written(&self) {
        self.lock().is_written = true;
    }

    /// Says what the request has written, so that nobody has to be asked for it: the token of
    /// [`run_with_token`](crate::TxBuilder::run_with_token). Reads of this request show it too from
    /// then on, and of several that are told the last one counts: begin no write before the one
    /// before is told.
    pub fn wrote(&self, token: &ConsistencyToken) {
        let mut state = self.lock();
        state.token = Some(*token);
        state.told = Some(*token);
    }

    /// Takes a connection for a read: of a standby that has replayed what must be seen, or of the
    /// writer.
    ///
    /// # Errors
    ///
    /// As [`Pool::reader_at`](crate::Pool::reader_at).
    ///
    /// # Cancel safety
    ///
    /// As [`Pool::get`](crate::Pool::get).
    pub async fn checkout<P: WebPool>(
        &self,
        pool: &P,
        limit: Option<std::time::Duration>,
    ) -> Result<P::Client, Error> {
        let Some(token) = self.token() else {
            return pool.checkout(Target::PreferStandby, limit).await;
        };
        let (client, served) = pool.checkout_at(&token, limit).await?;
        // Only a read finds out that the writer itself is not there.
        if served.standing == Standing::Future {
            self.replace();
        }
        Ok(client)
    }

    /// What the request brought is of no use for later ones.
    pub(super) fn replace(&self) {
        self.lock().is_to_be_replaced = true;
    }

    pub(super) fn is_to_be_replaced(&self) -> bool {
        self.lock().is_to_be_replaced
    }

    pub(super) fn told(&self) -> Option<ConsistencyToken> {
        self.lock().told
    }

    pub(super) fn is_written(&self) -> bool {
        self.lock().is_written
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
