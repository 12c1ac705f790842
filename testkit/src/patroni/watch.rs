//! Who is the leader, and whether all is well.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use serde_json::Value;
use tokio::task::JoinSet;
use tokio_postgres::Client;

use super::{
    PatroniCluster,
    member::{Member, Run},
};
use crate::Error;

/// How long a host may take to say what it is.
const ASK_LIMIT: Duration = Duration::from_secs(2);
/// How often is asked. Each question is a session of its own.
const ASK_POLL: Duration = Duration::from_millis(25);

/// The timeline of a primary; NULL at a standby.
const TIMELINE: &str = "SELECT CASE WHEN NOT pg_is_in_recovery() \
    THEN ('x' || substr(pg_walfile_name(pg_current_wal_insert_lsn()), 1, 8))::bit(32)::int END";

impl PatroniCluster {
    /// The leader: of the hosts whose PostgreSQL says that it is a primary, the one with the
    /// highest timeline. Patroni's own word may be late by some seconds.
    ///
    /// # Errors
    ///
    /// No host is a primary at the moment, or none that answers within two seconds.
    pub async fn leader(&self) -> Result<usize, Error> {
        let primaries = self.primaries().await;
        primaries
            .first()
            .copied()
            .ok_or_else(|| self.state_error("no host is a primary at the moment"))
    }

    /// All hosts whose PostgreSQL says that it is a primary, the highest timeline first: two of
    /// them are a split brain. A host that does not answer within two seconds is none.
    pub async fn primaries(&self) -> Vec<usize> {
        let mut asked = JoinSet::new();
        for member in self.up() {
            asked.spawn(claim(member));
        }
        let mut claims = Vec::new();
        while let Some(claim) = asked.join_next().await {
            if let Ok(Ok((index, Some(timeline)))) = claim {
                claims.push((timeline, index));
            }
        }
        claims.sort_unstable_by(|a, b| b.cmp(a));
        claims.into_iter().map(|(_, index)| index).collect()
    }

    /// Whether a host's PostgreSQL says that it is a primary.
    ///
    /// # Errors
    ///
    /// There is no such host, or it does not answer within two seconds.
    pub async fn is_primary(&self, host: usize) -> Result<bool, Error> {
        let (_, timeline) = claim(self.member(host)?.clone()).await?;
        Ok(timeline.is_some())
    }

    /// Waits until another host than `old` is a primary, and says which one. What `old` is by
    /// then does not count: it may be gone, silent, or a primary still.
    ///
    /// # Errors
    ///
    /// It takes too long.
    pub async fn wait_new_leader(&self, old: usize) -> Result<usize, Error> {
        let begun = Instant::now();
        while begun.elapsed() < self.limit {
            let mut asked = JoinSet::new();
            for member in self.up() {
                if member.places.index != old {
                    asked.spawn(claim(member));
                }
            }
            // The first counts: others may be silent.
            while let Some(claim) = asked.join_next().await {
                if let Ok(Ok((index, Some(_)))) = claim {
                    return Ok(index);
                }
            }
            tokio::time::sleep(ASK_POLL).await;
        }
        Err(self
            .member(old)?
            .timeout("another host to become the leader", begun.elapsed()))
    }

    /// Waits until a host's PostgreSQL says that it is a standby.
    ///
    /// # Errors
    ///
    /// There is no such host, or it takes too long.
    pub async fn wait_standby(&self, host: usize) -> Result<(), Error> {
        let member = self.member(host)?;
        member
            .until(self.limit, "it to be a standby", || async {
                Ok(matches!(self.is_primary(host).await, Ok(false)))
            })
            .await
    }

    /// Waits until all is well: one host is a primary, all others stream its timeline, and every
    /// Patroni knows it, also which standby is a synchronous one where there has to be one. Hosts that have been killed or stopped do not count.
    ///
    /// # Errors
    ///
    /// It takes too long: the error says what was not well. A Patroni has ended by itself.
    pub async fn wait_healthy(&self) -> Result<(), Error> {
        let begun = Instant::now();
        loop {
            let Err((host, ailment)) = self.look().await else {
                return Ok(());
            };
            let member = self.member(host)?;
            let ended = member.run() == Run::Up && !member.patroni_runs();
            if ended || begun.elapsed() > self.limit {
                let what = format!("a healthy cluster, but {ailment}");
                return Err(member.timeout(&what, begun.elapsed()));
            }
            tokio::time::sleep(ASK_POLL).await;
        }
    }

    /// The first thing that is not well, and where.
    async fn look(&self) -> Result<(), (usize, String)> {
        let present: Vec<&Arc<Member>> = self
            .members
            .iter()
            .filter(|member| member.run() != Run::Down)
            .collect();
        for member in &present {
            let index = member.places.index;
            if member.run() == Run::Frozen {
                return Err((index, "it is frozen".to_owned()));
            }
            if !member.patroni_runs() {
                return Err((index, "its Patroni does not run".to_owned()));
            }
        }
        let leader = match self.primaries().await[..] {
            [leader] => &self.members[leader],
            [] => return Err((0, "no host is a primary".to_owned())),
            [first, ..] => return Err((first, "several hosts are primaries".to_owned())),
        };
        streaming(leader, &present)
            .await
            .map_err(|error| (leader.places.index, error.to_string()))?
            .map_or(Ok(()), Err)?;
        for member in &present {
            let told = self
                .rest(member.places.index, "GET", "/cluster", None)
                .await
                .map_err(|error| (member.places.index, error.to_string()))?;
            if !knows(&told.body, leader, &present, self.synchronous) {
                let ailment = format!("its Patroni says: {}", told.body);
                return Err((member.places.index, ailment));
            }
        }
        Ok(())
    }

    fn up(&self) -> impl Iterator<Item = Arc<Member>> {
        let members = self.members.iter();
        members.filter(|member| member.run() == Run::Up).cloned()
    }
}

/// A host, and its timeline if it is a primary.
async fn claim(member: Arc<Member>) -> Result<(usize, Option<i32>), Error> {
    let index = member.places.index;
    let asking = async {
        let client = member.connect(ASK_LIMIT).await?;
        let row = client
            .query_one(TIMELINE, &[])
            .await
            .map_err(Error::sql(index))?;
        Ok((index, row.get(0)))
    };
    tokio::time::timeout(ASK_LIMIT, asking)
        .await
        .map_err(|_| member.timeout("its role", ASK_LIMIT))?
}

/// The first standby that does not stream the leader's timeline, if any.
async fn streaming(
    leader: &Member,
    present: &[&Arc<Member>],
) -> Result<Option<(usize, String)>, Error> {
    let session = leader.connect(ASK_LIMIT).await?;
    let timeline: Option<i32> = ask(leader, &session, TIMELINE).await?;
    for standby in present {
        let index = standby.places.index;
        if index == leader.places.index {
            continue;
        }
        let sql = format!(
            "SELECT count(*)::int FROM pg_stat_replication \
             WHERE application_name = '{}' AND state = 'streaming'",
            standby.places.name
        );
        if ask(leader, &session, &sql).await? != Some(1) {
            return Ok(Some((index, "it does not stream".to_owned())));
        }
        // One whose history has parted may stream the old timeline for a moment.
        let sql = "SELECT max(received_tli) FROM pg_stat_wal_receiver WHERE status = 'streaming'";
        let asked = match standby.connect(ASK_LIMIT).await {
            Ok(session) => ask(standby, &session, sql).await,
            Err(error) => Err(error),
        };
        match asked {
            Ok(received) if received == timeline => {}
            Ok(received) => {
                let ailment = format!("it streams timeline {received:?}, not {timeline:?}");
                return Ok(Some((index, ailment)));
            }
            Err(error) => return Ok(Some((index, error.to_string()))),
        }
    }
    Ok(None)
}

async fn ask(member: &Member, session: &Client, sql: &str) -> Result<Option<i32>, Error> {
    let asking = session.query_one(sql, &[]);
    let row = tokio::time::timeout(ASK_LIMIT, asking)
        .await
        .map_err(|_| member.timeout("an answer", ASK_LIMIT))?
        .map_err(Error::sql(member.places.index))?;
    Ok(row.get(0))
}

/// Whether what a Patroni tells of the cluster names that leader, and all others as well, one of
/// them as a synchronous standby if commits wait for one.
fn knows(told: &str, leader: &Member, present: &[&Arc<Member>], synchronous: bool) -> bool {
    let told: Value = serde_json::from_str(told).unwrap_or_default();
    let listed = told["members"].as_array().map_or(&[][..], Vec::as_slice);
    let mut roles = listed.iter().filter_map(|entry| entry["role"].as_str());
    let has_synchronous = roles.any(|role| role == "sync_standby" || role == "quorum_standby");
    if synchronous && present.len() > 1 && !has_synchronous {
        return false;
    }
    present.iter().all(|member| {
        let entry = listed
            .iter()
            .find(|entry| entry["name"] == member.places.name.as_str());
        entry.is_some_and(|entry| {
            let leads = entry["role"] == "leader";
            let well = entry["state"] == "running" || entry["state"] == "streaming";
            well && leads == (member.places.index == leader.places.index)
        })
    })
}
