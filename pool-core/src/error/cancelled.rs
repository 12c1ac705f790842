//! Statements that were cancelled.

use tokio_postgres::error::SqlState;

use super::{Error, driver_error};

/// The server's words for a statement that took too long. A cancel request has others under the
/// same code.
const TOO_LONG: &str = "canceling statement due to statement timeout";

impl Error {
    /// Whether a statement was ended by `statement_timeout`: of
    /// [the pool](crate::config::PoolSettings::statement_timeout),
    /// [the checkout](crate::CheckoutOptions::statement_timeout),
    /// [the transaction](crate::TxBuilder::statement_timeout), or the server's own.
    ///
    /// The server has one SQLSTATE, 57014, for this and for a cancel request, and tells them apart
    /// in words only. So on a server whose `lc_messages` is another language than English this is
    /// `false`, and [`sqlstate`](Self::sqlstate) is what is left. `run_tx` repeats neither.
    ///
    /// # Examples
    ///
    /// ```no_run
    /// # async fn f(pool: leadpool::Pool) -> Result<(), leadpool::Error> {
    /// use std::time::Duration;
    ///
    /// let report = pool
    ///     .tx()
    ///     .reader()
    ///     .statement_timeout(Duration::from_secs(2))
    ///     .run(|tx| async move { Ok(tx.query("SELECT * FROM yearly_report", &[]).await?) })
    ///     .await;
    /// match report {
    ///     Err(error) if error.is_statement_timeout() => eprintln!("not now: {error}"),
    ///     report => println!("{} rows", report?.len()),
    /// }
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn is_statement_timeout(&self) -> bool {
        driver_error(self)
            .and_then(tokio_postgres::Error::as_db_error)
            .is_some_and(|db| *db.code() == SqlState::QUERY_CANCELED && db.message() == TOO_LONG)
    }
}
