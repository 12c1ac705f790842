//! Providers that fail or hang, and what goes on all the same.

use std::{
    error::Error as _,
    sync::{
        Arc,
        atomic::{AtomicU8, AtomicUsize, Ordering},
    },
    time::Duration,
};

use leadpool::{
    Error, Pool, Target,
    config::ConfigBuilder,
    credentials::{CredentialError, Credentials, from_fn},
    topology::Health,
};
use leadpool_testkit::Cluster as Servers;

use crate::support::*;

const WELL: u8 = 0;
const FAILS: u8 = 1;
const FAILS_FOR_GOOD: u8 = 2;
const HANGS: u8 = 3;

/// A provider of which the test says how it is.
#[derive(Clone, Default)]
struct Moody {
    mood: Arc<AtomicU8>,
    asked: Arc<AtomicUsize>,
}

impl Moody {
    fn is(&self, mood: u8) {
        self.mood.store(mood, Ordering::SeqCst);
    }

    fn asked(&self) -> usize {
        self.asked.load(Ordering::SeqCst)
    }

    async fn pool(
        &self,
        servers: &Servers,
        change: impl FnOnce(ConfigBuilder) -> ConfigBuilder,
    ) -> Pool {
        let moody = self.clone();
        let provider = from_fn(move |_| {
            let moody = moody.clone();
            async move {
                moody.asked.fetch_add(1, Ordering::SeqCst);
                match moody.mood.load(Ordering::SeqCst) {
                    WELL => Ok(Credentials::password("first")),
                    FAILS => Err("the vault is sealed".into()),
                    FAILS_FOR_GOOD => Err(CredentialError::permanent("no such role").into()),
                    _ => std::future::pending().await,
                }
            }
        });
        let pool = connect(servers, "scram", |c| change(c.credentials(provider)));
        pool.await.unwrap()
    }
}

#[tokio::test]
async fn what_passes_is_waited_for_within_the_deadline() {
    let servers = start(0).await;
    let moody = Moody::default();
    let pool = moody.pool(&servers, |c| c).await;
    let held = pool.get().await.unwrap();
    moody.is(FAILS);
    let before = moody.asked();
    let waiting = tokio::spawn(async move { pool.get().await });
    soon("further questions", async {
        while moody.asked() < before + 3 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
    moody.is(WELL);
    let got = soon("a connection", waiting).await.unwrap().unwrap();
    assert_eq!(who(&got).await, "scram");
    assert_eq!(who(&held).await, "scram");
}

#[tokio::test]
async fn what_does_not_pass_in_time_is_the_source_of_the_error() {
    let servers = start(0).await;
    let moody = Moody::default();
    let pool = moody.pool(&servers, |c| c).await;
    let _held = pool.get().await.unwrap();
    moody.is(FAILS);
    let get = pool.timeout_get(Target::Primary, Duration::from_millis(200));
    let error = soon("the deadline", get).await.unwrap_err();
    assert!(matches!(error, Error::NoHost(_)), "{error:?}");
    let source = error.source().unwrap();
    let source = source.downcast_ref::<CredentialError>().unwrap();
    assert!(!source.is_permanent() && source.host().is_some());
    assert!(source.to_string().contains("the vault is sealed"));
}

#[tokio::test]
async fn what_is_permanent_fails_at_once() {
    let servers = start(0).await;
    let moody = Moody::default();
    let pool = moody.pool(&servers, |c| c).await;
    let held = pool.get().await.unwrap();
    moody.is(FAILS_FOR_GOOD);
    let before = moody.asked();
    let error = pool.get().await.unwrap_err();
    assert_eq!(moody.asked(), before + 1);
    let Error::Connect(error) = error else {
        panic!("{error:?}");
    };
    assert_eq!(error.host.port(), servers.addr(0).unwrap().port());
    let source = error.source().unwrap();
    let source = source.downcast_ref::<CredentialError>().unwrap();
    assert!(source.is_permanent());
    assert!(error.to_string().contains("no such role"), "{error}");
    assert_eq!(who(&held).await, "scram");
}

#[tokio::test]
async fn a_provider_that_hangs_keeps_nobody_beyond_his_deadline() {
    let servers = start(0).await;
    let moody = Moody::default();
    let pool = moody
        .pool(&servers, |c| c.connect_timeout(Duration::from_millis(500)))
        .await;
    let held = pool.get().await.unwrap();
    moody.is(HANGS);
    let get = pool.timeout_get(Target::Primary, Duration::from_millis(1_500));
    let error = soon("the deadline", get).await.unwrap_err();
    let text = chain(&error);
    assert!(text.contains("no answer within"), "{text}");
    drop(held);
    // Who needs no new connection does not even notice.
    let idle = pool.get().await.unwrap();
    moody.is(WELL);
    let other = pool.get().await.unwrap();
    assert_eq!(who(&other).await, who(&idle).await);
}

/// What the monitor can't log in with anew it does without: it says nothing about the host.
#[tokio::test]
async fn a_provider_that_hangs_or_fails_makes_no_host_suspect() {
    let servers = start(0).await;
    for mood in [HANGS, FAILS, FAILS_FOR_GOOD] {
        let moody = Moody::default();
        let pool = moody
            .pool(&servers, |c| {
                c.suspect_after(Duration::from_millis(200))
                    .silence_limit(Duration::from_millis(400))
            })
            .await;
        let held = pool.get().await.unwrap();
        let mut events = pool.cluster().events();
        moody.is(mood);
        let before = moody.asked();
        // The probe's connection is lost; for the next one credentials are needed.
        let monitor =
            "SELECT pid FROM pg_stat_activity WHERE application_name = 'leadpool monitor'";
        let admin = servers.connect(0).await.unwrap();
        let old: i32 = admin.query_one(monitor, &[]).await.unwrap().get(0);
        admin
            .execute("SELECT pg_terminate_backend($1)", &[&old])
            .await
            .unwrap();
        soon("a new connection of the monitor", async {
            loop {
                let rows = admin.query(monitor, &[]).await.unwrap();
                if rows.iter().any(|row| row.get::<_, i32>(0) != old) {
                    break;
                }
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        })
        .await;
        assert!(moody.asked() > before);
        assert_eq!(who(&held).await, "scram");
        assert_eq!(pool.cluster().topology().hosts()[0].health, Health::Up);
        while let Ok(Some(event)) = tokio::time::timeout(Duration::ZERO, events.next()).await {
            let event = format!("{event:?}");
            assert!(!event.contains("HostDown"), "{mood}: {event}");
        }
        pool.close(Duration::ZERO).await;
    }
}
