//! How checkouts are logged.

use std::time::Duration;

use log::LevelFilter;

use crate::PgPoolOptions;

/// sqlx logs a checkout by the time that it spent in its host's pool: waiting for a place and for
/// a connection to be opened, but not for a usable host, of which
/// [leadpool](leadpool::manual::observability) tells. What is idle is handed out unlogged.
impl PgPoolOptions {
    /// At which level each checkout is logged that found no idle connection: see
    /// [sqlx](sqlx::pool::PoolOptions::acquire_time_level). Default off.
    pub fn acquire_time_level(mut self, level: LevelFilter) -> Self {
        self.sqlx = self.sqlx.acquire_time_level(level);
        self
    }

    /// At which level slow checkouts are logged: see
    /// [sqlx](sqlx::pool::PoolOptions::acquire_slow_level). Default `Warn`.
    pub fn acquire_slow_level(mut self, level: LevelFilter) -> Self {
        self.sqlx = self.sqlx.acquire_slow_level(level);
        self
    }

    /// After how long a checkout is logged as slow: see
    /// [sqlx](sqlx::pool::PoolOptions::acquire_slow_threshold). Default 2 s.
    pub fn acquire_slow_threshold(mut self, threshold: Duration) -> Self {
        self.sqlx = self.sqlx.acquire_slow_threshold(threshold);
        self
    }

    /// After how long a checkout is logged as slow.
    #[must_use]
    pub fn get_acquire_slow_threshold(&self) -> Duration {
        self.sqlx.get_acquire_slow_threshold()
    }
}
