//! Handles of one pool: whom they ask for, and what its statements may do.

use leadpool::Target;

use crate::Pool;

impl Pool {
    /// The same pool as a handle for what only reads: standbys serve it, by the configured
    /// strategy, and the writer while there is none. So its statements are
    /// [repeatable](Self::repeatable).
    #[must_use]
    pub fn reader(&self) -> Self {
        self.targeting(Target::PreferStandby)
    }

    /// The same pool as a handle that the writer serves.
    #[must_use]
    pub fn writer(&self) -> Self {
        self.targeting(Target::Primary)
    }

    /// The same pool as a handle that hosts serve which are usable as `target` asks.
    #[must_use]
    pub fn targeting(&self, target: Target) -> Self {
        Self {
            target,
            token: None,
            ..self.clone()
        }
    }

    /// The same pool as a handle for single statements that may run twice: what only reads, or
    /// writes the same once more. One that was interrupted is sent again, on the writer too,
    /// unless some of its rows have been passed on.
    ///
    /// Without this, only those of a handle for standbys are: the text of a statement does not say
    /// what it calls.
    ///
    /// # Examples
    ///
    /// ```no_run
    /// # async fn f(pool: leadpool_sqlx::Pool) -> Result<(), sqlx::Error> {
    /// // What was written a moment ago is read on the writer, also across a failover.
    /// let item: String = sqlx::query_scalar("SELECT item FROM orders WHERE id = $1")
    ///     .bind(7_i64)
    ///     .fetch_one(&pool.repeatable())
    ///     .await?;
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn repeatable(&self) -> Self {
        Self {
            is_repeatable: true,
            ..self.clone()
        }
    }

    /// What this handle asks for.
    #[must_use]
    pub fn target(&self) -> Target {
        self.target
    }

    /// Whether single statements may run twice.
    pub(crate) fn may_run_twice(&self) -> bool {
        self.is_repeatable || self.only_reads()
    }

    /// Whether it is a handle for standbys, on which nothing can be written.
    pub(crate) fn only_reads(&self) -> bool {
        matches!(self.target, Target::Standby | Target::PreferStandby)
    }
}
