//! How a formation starts, and with which programs.

use std::{path::PathBuf, sync::RwLock};

use super::{AutoFailover, Keeper, Place};
use crate::{Error, PgInstall, guardian::Guardian, process::RunAs, programs};

pub(super) const PACKAGES: [&str; 2] = ["pg-auto-failover-cli", "postgresql-NN-auto-failover"];

/// Makes the monitor notice and decide within seconds instead of a minute; in milliseconds.
const QUICK: &str = "\
pgautofailover.health_check_period = 500
pgautofailover.health_check_timeout = 500
pgautofailover.health_check_max_retries = 1
pgautofailover.health_check_retry_delay = 200
pgautofailover.node_considered_unhealthy_timeout = 2000
pgautofailover.primary_demote_timeout = 3000
pgautofailover.startup_grace_period = 1000
";

/// Chooses what [`AutoFailover`] starts.
///
/// ```no_run
/// # async fn f() -> Result<(), leadpool_testkit::Error> {
/// let formation = leadpool_testkit::AutoFailover::builder().hosts(3).start().await?;
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
#[must_use = "a builder does nothing until `start` is awaited"]
pub struct AutoFailoverBuilder {
    hosts: usize,
}

impl Default for AutoFailoverBuilder {
    fn default() -> Self {
        Self { hosts: 2 }
    }
}

impl AutoFailoverBuilder {
    /// How many hosts beside the monitor; 2 if not set.
    pub fn hosts(mut self, hosts: usize) -> Self {
        self.hosts = hosts;
        self
    }

    /// Starts the monitor and the hosts: returns when all standbys follow.
    ///
    /// # Errors
    ///
    /// As [`AutoFailover::available`]; something did not start: the error holds its log.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future kills what it has started.
    pub async fn start(self) -> Result<AutoFailover, Error> {
        let (pg_autoctl, install) = find()?;
        let dir = tempfile::Builder::new()
            .prefix("leadpool-")
            .tempdir()
            .map_err(Error::io("making a temporary folder"))?;
        let place = Place {
            dir: dir.path().to_owned(),
            pg_autoctl,
            install,
            run_as: RunAs::find()?,
        };
        place.prepare()?;
        let formation = AutoFailover {
            hosts: RwLock::new(Vec::new()),
            monitor: Keeper::monitor(&place)?,
            _guardian: Guardian::start(&place.dir)?,
            place,
            _dir: dir,
        };
        // It is another cluster than the one it looks after: it gets another system identifier.
        let monitor = &formation.monitor;
        monitor.prepare(&formation.place, true, QUICK).await?;
        monitor.create("monitor", &[])?;
        formation.wait_for_monitor().await?;
        for _ in 0..self.hosts {
            formation.add_host().await?;
        }
        Ok(formation)
    }
}

/// The programs to use.
pub(super) fn find() -> Result<(PathBuf, PgInstall), Error> {
    let missing = |what| programs::missing("pg_auto_failover", what, &PACKAGES);
    let install = programs::install_with("pgautofailover.so")?
        .ok_or_else(|| missing("the extension `pgautofailover` of PostgreSQL"))?;
    let pg_autoctl = programs::find("pg_autoctl").ok_or_else(|| missing("`pg_autoctl`"))?;
    Ok((pg_autoctl, install))
}
