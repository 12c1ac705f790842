//! What can be done to a cluster.

use std::sync::Arc;

use rustix::process::Signal;

use crate::{
    Cluster, Error,
    host::{Host, Run},
    process::signal,
};

impl Cluster {
    /// Kills every process of a host at once, as a power cut does.
    ///
    /// # Errors
    ///
    /// There is no such host.
    pub async fn kill(&self, host: usize) -> Result<(), Error> {
        self.host(host)?.kill();
        Ok(())
    }

    /// Kills the postmaster alone; its backends notice, a busy one only after its statement.
    ///
    /// # Errors
    ///
    /// There is no such host.
    pub async fn kill_postmaster(&self, host: usize) -> Result<(), Error> {
        self.host(host)?.kill_postmaster();
        Ok(())
    }

    /// Stops a host in the "fast" mode: sessions are ended, and standbys get all WAL.
    ///
    /// # Errors
    ///
    /// It does not stop in time.
    pub async fn stop_fast(&self, host: usize) -> Result<(), Error> {
        self.host(host)?.stop(Signal::INT).await
    }

    /// Stops a host in the "immediate" mode: without a checkpoint.
    ///
    /// # Errors
    ///
    /// It does not stop in time.
    pub async fn stop_immediate(&self, host: usize) -> Result<(), Error> {
        self.host(host)?.stop(Signal::QUIT).await
    }

    /// Starts a host as its files say, and waits until it accepts connections.
    ///
    /// # Errors
    ///
    /// It does not start: the error holds its log.
    pub async fn start_host(&self, host: usize) -> Result<(), Error> {
        let host = self.host(host)?;
        if host.run() != Run::Stopped {
            return Err(host.state_error("is not stopped"));
        }
        host.start(false).await
    }

    /// Starts a former primary as it was left, although there is a new one: split brain.
    ///
    /// # Errors
    ///
    /// As [`start_host`](Self::start_host).
    pub async fn revive_stale(&self, host: usize) -> Result<(), Error> {
        self.start_host(host).await
    }

    /// Stops every process of a host without ending it: connections stay open and silent, new
    /// ones are accepted by the kernel and get no answer.
    ///
    /// # Errors
    ///
    /// There is no such host.
    pub async fn freeze(&self, host: usize) -> Result<(), Error> {
        self.host(host)?.freeze();
        Ok(())
    }

    /// Stops one backend without ending it: its session is silent, all others go on.
    /// [`thaw`](Self::thaw) lets it go on.
    ///
    /// # Errors
    ///
    /// There is no such host.
    pub async fn freeze_backend(&self, host: usize, pid: i32) -> Result<(), Error> {
        self.host(host)?.freeze_process(Some(pid));
        Ok(())
    }

    /// Stops the postmaster without ending it: open sessions go on, new ones get no answer.
    /// [`thaw`](Self::thaw) lets it go on.
    ///
    /// # Errors
    ///
    /// There is no such host.
    pub async fn freeze_postmaster(&self, host: usize) -> Result<(), Error> {
        self.host(host)?.freeze_process(None);
        Ok(())
    }

    /// Lets a frozen host go on.
    ///
    /// # Errors
    ///
    /// There is no such host.
    pub async fn thaw(&self, host: usize) -> Result<(), Error> {
        self.host(host)?.thaw();
        Ok(())
    }

    /// Kills one backend: the server ends all sessions and recovers.
    ///
    /// # Errors
    ///
    /// There is no such host.
    pub async fn crash_backend(&self, host: usize, pid: i32) -> Result<(), Error> {
        self.host(host)?;
        signal(pid, Signal::KILL);
        Ok(())
    }

    /// Ends all sessions of clients by `pg_terminate_backend`.
    ///
    /// # Errors
    ///
    /// What the server says.
    pub async fn terminate_backends(&self, host: usize) -> Result<(), Error> {
        self.host(host)?
            .execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity \
                 WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()",
            )
            .await
    }

    /// Promotes a standby, and waits until it accepts writes. Nothing else changes: other
    /// standbys go on following whom they followed.
    ///
    /// # Errors
    ///
    /// It is no standby, or is not promoted in time.
    pub async fn promote(&self, host: usize) -> Result<(), Error> {
        let host = self.host(host)?;
        host.execute("SELECT pg_promote(false)").await?;
        host.until("the promotion", || async {
            Ok(host
                .ask("SELECT pg_is_in_recovery()::text")
                .await?
                .as_deref()
                == Some("false"))
        })
        .await?;
        self.set_primary(host.index);
        Ok(())
    }

    /// Makes a standby follow another host, without a restart.
    ///
    /// # Errors
    ///
    /// What the server says.
    pub async fn repoint(&self, standby: usize, primary: usize) -> Result<(), Error> {
        let (standby, primary) = (self.host(standby)?, self.host(primary)?);
        let conninfo = standby.conninfo_to(primary.addr());
        let client = standby.connect().await?;
        for sql in [
            format!("ALTER SYSTEM SET primary_conninfo = '{conninfo}'"),
            "SELECT pg_reload_conf()".to_owned(),
        ] {
            client
                .batch_execute(&sql)
                .await
                .map_err(Error::sql(standby.index))?;
        }
        Ok(())
    }

    /// Does what a manager does after the loss of a primary: promotes the running standby with
    /// the most WAL and makes the others follow it. Says which one.
    ///
    /// # Errors
    ///
    /// No standby runs.
    pub async fn failover(&self) -> Result<usize, Error> {
        let mut best: Option<(u64, Arc<Host>)> = None;
        let old = self.primary();
        for host in self.standbys(old) {
            let asked = host
                .ask(
                    "SELECT (greatest(pg_last_wal_receive_lsn(), pg_last_wal_replay_lsn()) \
                     - '0/0'::pg_lsn)::text WHERE pg_is_in_recovery()",
                )
                .await;
            let position = match asked {
                Ok(Some(text)) => text.parse().unwrap_or(0),
                _ => continue,
            };
            if best.as_ref().is_none_or(|(most, _)| position > *most) {
                best = Some((position, host));
            }
        }
        let Some((_, best)) = best else {
            return Err(Error::State {
                host: old,
                problem: "no standby runs that could take over".to_owned(),
            });
        };
        self.promote(best.index).await?;
        for host in self.standbys(old) {
            if host.index != best.index {
                self.repoint(host.index, best.index).await?;
            }
        }
        Ok(best.index)
    }

    /// Hands the role over without loss: stops the primary in the fast mode, promotes `to` once
    /// it has everything, and brings the old primary back as a standby.
    ///
    /// # Errors
    ///
    /// `to` does not stream from the primary; a step fails or takes too long.
    pub async fn switchover(&self, to: usize) -> Result<(), Error> {
        let old = self.host(self.primary())?;
        if old.index == to {
            return Err(old.state_error("is the primary already"));
        }
        let next = self.host(to)?;
        // A fast shutdown sends everything before it ends, to those who are connected.
        if !self.has_followed(to).await? {
            return Err(next.state_error("does not stream from the primary"));
        }
        old.execute("CHECKPOINT").await?;
        old.stop(Signal::INT).await?;
        let end = old.last_checkpoint().await?;
        let has_all = next
            .until("the rest of the WAL", || async {
                let sql = match &end {
                    Some(end) => format!("SELECT (pg_last_wal_replay_lsn() > '{end}')::text"),
                    None => "SELECT (pg_last_wal_receive_lsn() <= pg_last_wal_replay_lsn())::text"
                        .to_owned(),
                };
                Ok(next.ask(&sql).await?.as_deref() == Some("true"))
            })
            .await;
        if let Err(error) = has_all {
            // It was cut off in between: promoted now it would leave commits behind.
            old.start(false).await?;
            return Err(error);
        }
        self.promote(to).await?;
        for host in self.standbys(old.index) {
            if host.index != to {
                self.repoint(host.index, to).await?;
            }
        }
        old.write_standby_files(next.addr())?;
        old.start(false).await
    }

    /// The running hosts but `primary`.
    fn standbys(&self, primary: usize) -> Vec<Arc<Host>> {
        self.all()
            .into_iter()
            .filter(|host| host.index != primary && host.run() == Run::Running)
            .collect()
    }
}
