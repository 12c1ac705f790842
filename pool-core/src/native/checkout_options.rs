//! What one checkout asks for beyond the configuration.

use std::time::Duration;

use deadpool_postgres::{Client, Object};
use tokio::time::Instant;

use super::Pool;
use crate::{error::Error, topology::Target};

/// The options of one checkout, for [`Pool::get_with`].
///
/// ```no_run
/// # async fn f(pool: leadpool::Pool) -> Result<(), leadpool::Error> {
/// use std::time::Duration;
/// use leadpool::{CheckoutOptions, Target};
///
/// let options = CheckoutOptions::new()
///     .target(Target::PreferStandby)
///     .timeout(Duration::from_secs(2))
///     .statement_timeout(Duration::from_millis(500));
/// let client = pool.get_with(options).await?;
/// client.query("SELECT * FROM orders", &[]).await?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug, Default, PartialEq)]
#[must_use = "they do nothing until they are given to `Pool::get_with`"]
pub struct CheckoutOptions {
    target: Option<Target>,
    timeout: Option<Duration>,
    statement_timeout: Option<Duration>,
}

impl CheckoutOptions {
    /// Everything as the configuration says.
    pub fn new() -> Self {
        Self::default()
    }

    /// What kind of host. Default: [`Config::target`](crate::Config::target).
    pub fn target(mut self, target: Target) -> Self {
        self.target = Some(target);
        self
    }

    /// How long the checkout may take. Default:
    /// [`PoolSettings::checkout_timeout`](crate::config::PoolSettings::checkout_timeout).
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = Some(timeout);
        self
    }

    /// How long each statement may take: the server ends one that takes longer, which
    /// [`Error::is_statement_timeout`] recognises. Zero is no limit. Default:
    /// [`PoolSettings::statement_timeout`](crate::config::PoolSettings::statement_timeout).
    ///
    /// It is sent ahead of the first statement, without waiting for an answer, and holds until the
    /// client is returned; the next one to get the connection has the pool's limit again. In
    /// between `SET statement_timeout` changes it as ever.
    pub fn statement_timeout(mut self, limit: Duration) -> Self {
        self.statement_timeout = Some(limit);
        self
    }
}

impl Pool {
    /// Takes a connection with options of its own.
    ///
    /// # Errors
    ///
    /// As [`get`](Self::get).
    ///
    /// # Cancel safety
    ///
    /// As [`get`](Self::get).
    ///
    /// # Examples
    ///
    /// See [`CheckoutOptions`].
    pub async fn get_with(&self, options: CheckoutOptions) -> Result<Client, Error> {
        let config = self.cluster().config();
        let target = options.target.unwrap_or_else(|| config.target());
        let timeout = options
            .timeout
            .unwrap_or_else(|| config.pool().checkout_timeout);
        let Some(limit) = options.statement_timeout else {
            return self.timeout_get(target, timeout).await;
        };
        let begun = Instant::now();
        loop {
            let left = timeout.saturating_sub(begun.elapsed());
            let client = self.timeout_get(target, left).await?;
            match self.limits().set(&client, limit) {
                Ok(()) => return Ok(client),
                // It was idle, and has ended meanwhile.
                Err(_) => drop(Object::take(client)),
            }
        }
    }
}
