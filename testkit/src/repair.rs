//! Bringing a cluster back into order, and making it larger or smaller.

use std::{
    fs,
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};

use rustix::process::Signal;

use crate::{
    Cluster, Error,
    host::{Host, Run},
    template,
    wait::{LIMIT, POLL},
};

impl Cluster {
    /// Makes a former primary, stopped or running, a standby of the current one: by `pg_rewind`
    /// where histories have parted, by a fresh copy where that is not possible.
    ///
    /// # Errors
    ///
    /// A step fails or takes too long.
    pub async fn rejoin(&self, host: usize) -> Result<(), Error> {
        let host = self.host(host)?;
        let primary = self.host(self.primary())?;
        if host.run() == Run::Frozen {
            host.thaw();
        }
        if host.run() == Run::Running {
            host.stop(Signal::QUIT).await?;
        }
        // So that the new timeline is in its control file, where pg_rewind looks.
        primary.execute("CHECKPOINT").await?;
        if !self.rewind(&host, &primary).await {
            self.clone_from(&primary, &host).await?;
        }
        host.write_standby_files(primary.addr())?;
        host.start(false).await
    }

    async fn rewind(&self, host: &Host, primary: &Host) -> bool {
        let program = host.install.bin_dir().join("pg_rewind");
        if !program.exists() || !host.data_dir.join("PG_VERSION").exists() {
            return false;
        }
        let mut rewind = host.run_as.command(program);
        rewind
            .arg("-D")
            .arg(&host.data_dir)
            .arg("--source-server")
            .arg(format!(
                "{} dbname=postgres",
                host.conninfo_to(primary.addr())
            ))
            .arg("--no-sync");
        let _ = fs::remove_file(host.data_dir.join("postmaster.pid"));
        match host.run_as.run(rewind).await {
            Ok(_) => true,
            Err(error) => {
                tracing::debug!(host = host.index, %error, "pg_rewind failed, copying instead");
                false
            }
        }
    }

    /// Copies the data folder of a running primary.
    async fn clone_from(&self, primary: &Host, host: &Host) -> Result<(), Error> {
        let (start, stop) = if primary.install.major() >= 15 {
            ("pg_backup_start('copy', true)", "pg_backup_stop(false)")
        } else {
            (
                "pg_start_backup('copy', true, false)",
                "pg_stop_backup(false, false)",
            )
        };
        let _ = fs::remove_dir_all(&host.data_dir);
        let client = primary.connect().await?;
        let sql = Error::sql;
        client
            .query_one(&format!("SELECT {start}::text"), &[])
            .await
            .map_err(sql(primary.index))?;
        template::copy(&host.run_as, &primary.data_dir, &host.data_dir)
            .await
            .or_else(|error| {
                // Files come and go while it runs; what matters is in the WAL.
                match host.data_dir.join("PG_VERSION").exists() {
                    true => Ok(()),
                    false => Err(error),
                }
            })?;
        let label: String = client
            .query_one(&format!("SELECT labelfile FROM {stop}"), &[])
            .await
            .map_err(sql(primary.index))?
            .get(0);
        write(host, &host.data_dir.join("backup_label"), &label)?;
        let _ = fs::remove_file(host.data_dir.join("postmaster.pid"));
        Ok(())
    }

    /// Adds a standby while the primary runs, and waits until it streams. Says its index.
    ///
    /// # Errors
    ///
    /// A step fails or takes too long.
    pub async fn add_standby(&self) -> Result<usize, Error> {
        let primary = self.host(self.primary())?;
        let host = self.new_host(primary.addr().ip(), None).await?;
        self.clone_from(&primary, &host).await?;
        host.write_standby_files(primary.addr())?;
        host.start(true).await?;
        self.wait_streaming().await?;
        Ok(host.index)
    }

    /// Takes a standby out for good.
    ///
    /// # Errors
    ///
    /// There is no such host, or it is the primary.
    pub async fn remove_standby(&self, host: usize) -> Result<(), Error> {
        let host = self.host(host)?;
        if host.index == self.primary() {
            return Err(host.state_error("is the primary; fail over first"));
        }
        host.remove();
        Ok(())
    }

    /// Brings everything in order, from whatever state: one primary, all others streaming from it
    /// and caught up.
    ///
    /// # Errors
    ///
    /// A step fails or takes too long.
    pub async fn heal(&self) -> Result<(), Error> {
        let primary = self.host(self.primary())?;
        for host in self.all() {
            if let Some(proxy) = &host.proxy {
                proxy.pass();
            }
        }
        primary.thaw();
        if primary.run() == Run::Stopped {
            primary.write_primary_files()?;
            primary.start(false).await?;
        }
        for host in self.all() {
            if host.index != primary.index && !self.follows(&host, &primary).await {
                self.rejoin(host.index).await?;
            }
        }
        self.wait_streaming().await?;
        self.apply_synchronous().await?;
        self.wait_replayed().await
    }

    /// Whether a host is a standby of the primary, if need be after being told so.
    async fn follows(&self, host: &Arc<Host>, primary: &Host) -> bool {
        if host.run() != Run::Running {
            return false;
        }
        let recovering = host.ask("SELECT pg_is_in_recovery()::text").await;
        if !matches!(recovering, Ok(Some(text)) if text == "true") {
            return false;
        }
        if self.repoint(host.index, primary.index).await.is_err() {
            return false;
        }
        // A standby that has gone too far on the old timeline never comes to stream.
        let begun = Instant::now();
        while begun.elapsed() < LIMIT / 10 {
            if matches!(self.is_streaming(host, primary).await, Ok(true)) {
                return true;
            }
            tokio::time::sleep(POLL).await;
        }
        false
    }

    /// Whether a standby has come to stream the primary's own timeline, within a second. One that
    /// had gone beyond the fork never does: it needs [`rejoin`](Self::rejoin), and must not be
    /// promoted.
    ///
    /// # Errors
    ///
    /// There is no such host.
    pub async fn has_followed(&self, standby: usize) -> Result<bool, Error> {
        let host = self.host(standby)?;
        let primary = self.host(self.primary())?;
        let begun = Instant::now();
        while begun.elapsed() < Duration::from_secs(1) {
            if matches!(self.is_streaming(&host, &primary).await, Ok(true)) {
                return Ok(true);
            }
            tokio::time::sleep(POLL).await;
        }
        Ok(false)
    }

    async fn is_streaming(&self, host: &Host, primary: &Host) -> Result<bool, Error> {
        let name = format!("host{}", host.index);
        let sql = format!(
            "SELECT count(*)::text FROM pg_stat_replication \
             WHERE application_name = '{name}' AND state = 'streaming'"
        );
        let sends = primary.ask(&sql).await?.as_deref() == Some("1");
        if !sends {
            return Ok(false);
        }
        // One that has gone beyond the fork streams the old timeline, over and over.
        let sql = "SELECT substr(pg_walfile_name(pg_current_wal_insert_lsn()), 1, 8)";
        let timeline = primary.ask(sql).await?.unwrap_or_default();
        let sql = format!(
            "SELECT count(*)::text FROM pg_stat_wal_receiver \
             WHERE status = 'streaming' AND lpad(upper(to_hex(received_tli)), 8, '0') = '{timeline}'"
        );
        Ok(host.ask(&sql).await?.as_deref() == Some("1"))
    }

    /// Waits until all standbys that run stream from the primary.
    ///
    /// # Errors
    ///
    /// It takes too long.
    pub async fn wait_streaming(&self) -> Result<(), Error> {
        let primary = self.host(self.primary())?;
        for host in self.all() {
            if host.index == primary.index || host.run() != Run::Running {
                continue;
            }
            host.until("streaming replication", || async {
                self.is_streaming(&host, &primary).await
            })
            .await?;
        }
        Ok(())
    }

    /// Waits until all standbys that run have replayed what the primary has written so far.
    ///
    /// # Errors
    ///
    /// It takes too long.
    pub async fn wait_replayed(&self) -> Result<(), Error> {
        for host in self.all() {
            if host.index != self.primary() && host.run() == Run::Running {
                self.wait_host_replayed(host.index).await?;
            }
        }
        Ok(())
    }

    /// Waits until a standby has replayed what the primary has written so far.
    pub(crate) async fn wait_host_replayed(&self, standby: usize) -> Result<(), Error> {
        let (host, primary) = (self.host(standby)?, self.host(self.primary())?);
        let written = primary
            .ask("SELECT pg_current_wal_insert_lsn()::text")
            .await?
            .unwrap_or_default();
        let sql = format!("SELECT (pg_last_wal_replay_lsn() >= '{written}')::text");
        host.until("the replay of all WAL", || async {
            Ok(host.ask(&sql).await?.as_deref() == Some("true"))
        })
        .await
    }

    /// Switches synchronous replication on at the current primary, if the cluster is to have it.
    pub(crate) async fn apply_synchronous(&self) -> Result<(), Error> {
        if !self.synchronous {
            return Ok(());
        }
        let primary = self.host(self.primary())?;
        let client = primary.connect().await?;
        for sql in [
            "ALTER SYSTEM SET synchronous_standby_names = 'ANY 1 (*)'",
            "SELECT pg_reload_conf()",
        ] {
            client
                .batch_execute(sql)
                .await
                .map_err(Error::sql(primary.index))?;
        }
        primary
            .until("synchronous replication", || async {
                let sql =
                    "SELECT count(*)::text FROM pg_stat_replication WHERE sync_state = 'quorum'";
                Ok(primary.ask(sql).await?.as_deref() != Some("0"))
            })
            .await
    }
}

fn write(host: &Host, path: &Path, text: &str) -> Result<(), Error> {
    fs::write(path, text).map_err(Error::io(path.display().to_string()))?;
    host.run_as.give(path)
}
