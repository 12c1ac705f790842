//! A connection over which one host is asked for its position, for those who wait for it.

use std::time::{Duration, Instant};

use super::probe::Probe;
use crate::{
    config::Config,
    connect::Login,
    consistency::Place,
    failover::{Answer, Failure, Pace},
    topology::{HostAddr, Lsn},
};

/// Since PostgreSQL 19 a server can be asked to wait
/// ([PostgreSQL documentation, `WAIT FOR`](https://www.postgresql.org/docs/19/sql-wait-for.html)).
const WAITS: u32 = 190_000;

/// Which timeline a standby has come to, by its own word: the newest of what it has written to
/// `pg_control`, and what it streams. The first two lag behind for minutes; the last one shows
/// itself only to members of `pg_read_all_stats`.
const SHOWN: &str = "\
SELECT GREATEST((SELECT timeline_id FROM pg_catalog.pg_control_checkpoint()), \
                (SELECT min_recovery_end_timeline FROM pg_catalog.pg_control_recovery()), \
                (SELECT received_tli FROM pg_catalog.pg_stat_wal_receiver))";
/// Some providers revoke the functions.
const RECEIVED: &str = "SELECT received_tli FROM pg_catalog.pg_stat_wal_receiver";

/// What a host said.
#[derive(Debug)]
pub(super) struct Said {
    /// Before it was asked.
    pub(super) asked_at: Instant,
    pub(super) answer: Answer,
    /// The timeline that a standby has come to, if it was asked for it.
    pub(super) shown: Option<u32>,
}

/// What a host is asked.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Question {
    /// A standby may wait until it has replayed this, for so long.
    pub(super) wait: Option<(Lsn, Duration)>,
    /// Which timeline it has come to.
    pub(super) timeline: bool,
}

impl Question {
    /// For those who want a standby that has a place; `shown` is the timeline that it has shown.
    pub(super) fn of(place: Option<Place>, shown: Option<u32>) -> Self {
        Self {
            wait: None,
            timeline: place.is_some_and(|place| shown.unwrap_or(1) < place.timeline),
        }
    }
}

/// An open connection.
#[derive(Debug)]
pub(super) struct Watch {
    probe: Probe,
    /// Whether the server knows `WAIT FOR`.
    waits: bool,
    /// How it is asked for its timeline; `None` if it may not be.
    shown: Option<&'static str>,
}

impl Watch {
    /// Opens it, within `limit`.
    pub(super) async fn open(
        config: &Config,
        host: &HostAddr,
        limit: Duration,
    ) -> Result<Self, Failure> {
        let login = Login::ask(config, host, None).await;
        let login = login.map_err(|error| Failure::Denied(error.to_string()))?;
        let mut probe = Probe::open(config, host, &login, limit)
            .await
            .map_err(|not| not.failure)?;
        let version = probe.ask_text("SHOW server_version_num").await?;
        let version = version.and_then(|text| text.parse().ok());
        Ok(Self {
            probe,
            waits: version.is_some_and(|version: u32| version >= WAITS),
            shown: Some(SHOWN),
        })
    }

    /// Asks. Where the server can wait, this returns when it has waited.
    pub(super) async fn ask(&mut self, question: Question) -> Result<Said, Failure> {
        if let (true, Some((position, limit))) = (self.waits, question.wait) {
            match self.probe.ask_text(&wait_for(position, limit)).await {
                // It has another form there, or none: it is asked again and again, as ever.
                Err(Failure::Denied(_)) => self.waits = false,
                // What came of it is seen below.
                waited => drop(waited?),
            }
        }
        let asked_at = Instant::now();
        let answer = self.probe.ask().await?;
        let shown = match question.timeline && answer.recovering {
            true => self.ask_shown().await?,
            false => None,
        };
        Ok(Said {
            asked_at,
            answer,
            shown,
        })
    }

    async fn ask_shown(&mut self) -> Result<Option<u32>, Failure> {
        while let Some(sql) = self.shown {
            match self.probe.ask_text(sql).await {
                Ok(text) => return Ok(text.and_then(|text| text.parse().ok())),
                Err(Failure::Denied(_)) if sql == SHOWN => self.shown = Some(RECEIVED),
                Err(Failure::Denied(_)) => self.shown = None,
                Err(failure) => return Err(failure),
            }
        }
        Ok(None)
    }

    /// Whether the server can be asked to wait.
    pub(super) fn waits(&self) -> bool {
        self.waits
    }

    /// Whether it is time for a fresh one: see [`Probe::is_old`].
    pub(super) fn is_old(&self) -> bool {
        self.probe.is_old(Pace::Idle, Duration::ZERO)
    }
}

/// Timeouts of zero would be none.
fn wait_for(position: Lsn, limit: Duration) -> String {
    let limit = limit.as_millis().max(1);
    format!("WAIT FOR LSN '{position}' WITH (MODE 'standby_replay', TIMEOUT '{limit}ms', NO_THROW)")
}

#[cfg(test)]
mod tests {
    use leadpool_testkit::Cluster;

    use super::*;

    #[test]
    fn it_is_said_as_the_documentation_has_it() {
        let position = "16/B374D848".parse().unwrap();
        assert_eq!(
            wait_for(position, Duration::from_micros(70_900)),
            "WAIT FOR LSN '16/B374D848' WITH (MODE 'standby_replay', TIMEOUT '70ms', NO_THROW)"
        );
        assert!(wait_for(position, Duration::ZERO).contains("'1ms'"));
    }

    #[tokio::test]
    async fn a_server_that_does_not_know_the_statement_is_asked_as_ever() {
        let servers = Cluster::builder().standbys(1).start().await.unwrap();
        let config = Config::from_url(&servers.url()).unwrap();
        let addr = servers.addr(1).unwrap();
        let host = HostAddr::new(addr.ip().to_string(), addr.port());
        let limit = Duration::from_secs(20);
        let mut watch = Watch::open(&config, &host, limit).await.unwrap();
        let sql = "SELECT current_setting('server_version_num')::int >= 190000";
        let client = servers.connect(1).await.unwrap();
        let knows: bool = client.query_one(sql, &[]).await.unwrap().get(0);
        assert_eq!(watch.waits(), knows);
        watch.waits = true;
        let question = Question {
            wait: Some((Lsn::new(1), limit)),
            timeline: true,
        };
        let said = watch.ask(question).await.unwrap();
        assert_eq!(watch.waits(), knows);
        assert!(said.answer.recovering && said.answer.position.is_some());
        assert_eq!(said.shown, Some(1));
    }
}
