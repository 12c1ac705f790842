//! What a pool offers for transactions that were left in doubt: asking later, and tokens.

use std::time::Duration;

use super::{Pool, resolve};
use crate::{
    error::Error,
    outcome::{Evidence, Outcome},
};

impl Pool {
    /// Finds out what became of a transaction whose COMMIT was not answered: asks the writer,
    /// waiting for one if there is none, within `timeout`.
    ///
    /// The evidence comes from [`InDoubt::evidence`](crate::error::InDoubt::evidence), also from
    /// another process or before a restart. If the transaction still runs and its client is gone,
    /// it is ended: so what is found out stays true.
    ///
    /// # Errors
    ///
    /// [`Error::Unknown`] when it can't be proved: its
    /// [`doubt`](crate::error::InDoubt::doubt) says why, and whether asking again may help.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future closes the connection it used.
    ///
    /// # Examples
    ///
    /// See [`Outcome`].
    pub async fn resolve(&self, evidence: &Evidence, timeout: Duration) -> Result<Outcome, Error> {
        resolve::ask(self.sub_pools(), evidence, timeout).await
    }

    /// Deletes tokens that prove nothing any more: those of transactions that began more than
    /// twice the [`token_retention`](crate::config::TxSettings::token_retention) ago, `batch` of
    /// them at most. Says how many there were: fewer than `batch` means that it is done.
    ///
    /// Call it now and then, from one place or several: they do not get in each other's way.
    ///
    /// # Errors
    ///
    /// As [`run_tx`](Self::run_tx). Without a table of tokens there is nothing to delete: 0.
    ///
    /// # Cancel safety
    ///
    /// As [`run_tx`](Self::run_tx).
    pub async fn clean_tokens(&self, batch: u32) -> Result<u64, Error> {
        let settings = self.cluster().config().tx();
        let Some(table) = &settings.token_table else {
            return Ok(0);
        };
        let oldest = (settings.token_retention * 2).as_secs_f64();
        let (clean, batch) = (table.clean(), i64::from(batch));
        self.tx()
            .evidence(false)
            .run(move |tx| {
                let clean = clean.clone();
                async move { Ok(tx.execute(&clean, &[&oldest, &batch]).await?) }
            })
            .await
    }

    /// Makes the table of tokens if it is not there:
    /// [`TokenTable::migration`](crate::outcome::TokenTable::migration), for those who have no
    /// migrations. Does nothing if the configuration names no table.
    ///
    /// # Errors
    ///
    /// As [`run_tx`](Self::run_tx); [`Error::Postgres`] with 42501 if the user may not.
    ///
    /// # Cancel safety
    ///
    /// As [`run_tx`](Self::run_tx).
    pub async fn create_token_table(&self) -> Result<(), Error> {
        let Some(table) = &self.cluster().config().tx().token_table else {
            return Ok(());
        };
        let migration = table.migration();
        self.tx()
            .evidence(false)
            .run(move |tx| {
                let migration = migration.clone();
                async move { Ok(tx.batch_execute(&migration).await?) }
            })
            .await
    }
}
