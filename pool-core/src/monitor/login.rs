//! What probes log in with. A provider that is slow, fails or hangs says nothing about the host, so
//! a probe does not wait for it once any credentials are known.

use std::{fmt, sync::Arc, time::Duration};

use futures_util::future::BoxFuture;
use tokio::time::timeout;

use crate::{config::Config, connect::Login, credentials::CredentialError, topology::HostAddr};

/// How long a probe waits for news of the provider, if it could do without.
const BRIEFLY: Duration = Duration::from_millis(20);

type Asking = BoxFuture<'static, Result<Login, CredentialError>>;

/// The credentials of one host's prober.
#[derive(Default)]
pub(super) struct Logins {
    /// The provider, being asked.
    asking: Option<Asking>,
    /// What came of it, until a probe takes it.
    answer: Option<Result<Login, CredentialError>>,
    /// What the host has not refused yet.
    last: Option<Login>,
    /// What the host has refused.
    rejected: Option<Login>,
}

impl Logins {
    /// What the provider said last, unless the host has refused it.
    pub(super) fn last(&self) -> Option<Login> {
        self.last.clone()
    }

    /// What the provider says if it says it soon, else what it said last. It goes on being asked
    /// while [`proceed`](Self::proceed) is polled. If nothing is known it may be waited for (`must`);
    /// it is bounded itself.
    ///
    /// # Cancel safety
    ///
    /// Nothing is lost when the future is dropped.
    pub(super) async fn get(
        &mut self,
        config: &Arc<Config>,
        host: &HostAddr,
        must: bool,
    ) -> Result<Login, CredentialError> {
        if self.asking.is_none() && self.answer.is_none() {
            let (config, host, rejected) = (config.clone(), host.clone(), self.rejected.take());
            self.asking = Some(Box::pin(async move {
                Login::ask(&config, &host, rejected).await
            }));
        }
        if self.answer.is_none() {
            let waited = timeout(BRIEFLY, self.proceed()).await;
            if waited.is_err() && self.last.is_none() && must {
                self.proceed().await;
            }
        }
        match (self.answer.take(), &self.last) {
            (Some(Ok(login)), _) => {
                self.last = Some(login.clone());
                Ok(login)
            }
            (_, Some(last)) => Ok(last.clone()),
            (Some(Err(error)), None) => Err(error),
            (None, None) => Err(Self::none()),
        }
    }

    /// Why there is nothing that could be tried at once.
    pub(super) fn none() -> CredentialError {
        CredentialError::transient("the provider has not answered yet")
    }

    /// Goes on asking the provider; returns when it has answered, and never if it is not asked.
    ///
    /// # Cancel safety
    ///
    /// Nothing is lost when the future is dropped.
    pub(super) async fn proceed(&mut self) {
        match &mut self.asking {
            Some(asking) => {
                self.answer = Some(asking.await);
                self.asking = None;
            }
            None => std::future::pending().await,
        }
    }

    /// The host has refused it: the provider is asked for another.
    pub(super) fn refused(&mut self, login: Login) {
        self.last = None;
        self.answer = None;
        self.rejected = Some(login);
    }
}

impl fmt::Debug for Logins {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Logins").finish_non_exhaustive()
    }
}
