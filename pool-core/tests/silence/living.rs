//! What must not be taken for a host that is gone.

use std::time::{Duration, Instant};

use leadpool::{Event, Events, Pool, Target};
use leadpool_testkit::Cluster as Servers;

use crate::{
    stalling::{Phase, Stalling, Whom},
    support::*,
};

/// How long a query runs that stands for one of ten minutes: several times every limit.
const LONG: Duration = Duration::from_secs(20);

/// Notes what must not happen, until it is dropped.
async fn no_loss(events: &mut Events) {
    loop {
        match events.next().await {
            Some(event @ (Event::HostDown { .. } | Event::Invalidated { .. })) => {
                panic!("given up: {event:?}")
            }
            Some(_) => {}
            None => std::future::pending().await,
        }
    }
}

/// Runs something during which no host may be given up.
async fn without_loss<T>(pool: &Pool, something: impl Future<Output = T>) -> T {
    let mut events = pool.cluster().events();
    tokio::select! {
        biased;
        () = no_loss(&mut events) => unreachable!(),
        done = something => done,
    }
}

async fn start_one() -> (Servers, Pool) {
    let servers = Servers::builder().standbys(0).proxies(true).start();
    let servers = servers.await.unwrap();
    prepare(&servers).await;
    let pool = Pool::connect(&servers.proxied_url()).await.unwrap();
    (servers, pool)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_long_query_on_a_loaded_host_behind_a_slow_network_stays_alive() {
    let (servers, pool) = start_one().await;
    let client = pool.get().await.unwrap();
    let mut hogs = Vec::new();
    for _ in 0..16 {
        let client = servers.connect(0).await.unwrap();
        hogs.push(tokio::spawn(async move {
            let burn =
                "SELECT count(*) FROM generate_series(1, 1000000000) AS n WHERE md5(n::text) = ''";
            let _ = client.simple_query(burn).await;
        }));
    }
    let way = Duration::from_millis(400);
    servers.proxy(0).unwrap().delay(way, way);
    let query = format!("SELECT pg_sleep({})", LONG.as_secs());
    let query = async { tokio::time::timeout(LONG * 3, client.simple_query(&query)).await };
    let answer = without_loss(&pool, query).await;
    answer.expect("in time").unwrap();
    for hog in hogs {
        hog.abort();
    }
    let slowest = pool.cluster().topology().hosts()[0].latency;
    println!("probes took {slowest:.2?} and nothing was aborted");
    assert!(slowest.unwrap() >= way);
}

#[tokio::test]
async fn a_pause_of_a_second_ends_nothing() {
    let (servers, pool) = start_one().await;
    for _ in 0..20 {
        let client = pool.get().await.unwrap();
        let query = async { client.simple_query("SELECT pg_sleep(2.5)").await };
        let mut events = pool.cluster().events();
        let pause = async {
            // Into the middle of the query, and so of the watch.
            tokio::time::sleep(Duration::from_millis(700)).await;
            let begun = Instant::now();
            servers.freeze(0).await.unwrap();
            tokio::time::sleep(Duration::from_secs(1)).await;
            servers.thaw(0).await.unwrap();
            begun.elapsed()
        };
        let (answer, paused) = tokio::join!(soon("the query", query), pause);
        if paused > Duration::from_millis(1_150) {
            // This machine was busy, and the pause became another.
            continue;
        }
        answer.unwrap();
        until(&mut events, "the suspicion", |event| {
            assert!(!matches!(
                event,
                Event::HostDown { .. } | Event::Invalidated { .. }
            ));
            matches!(event, Event::HostSuspect { .. })
        })
        .await;
        until(&mut events, "its end", |event| {
            assert!(!matches!(
                event,
                Event::HostDown { .. } | Event::Invalidated { .. }
            ));
            matches!(event, Event::HostUp { .. })
        })
        .await;
        return;
    }
    panic!("no pause was as short as it was to be");
}

/// The monitor gets no answer, over whatever connection; the application does.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_host_that_answers_the_application_is_not_gone() {
    let (servers, pool) = start_one().await;
    let client = pool.get().await.unwrap();
    let backend: i32 = client
        .query_one("SELECT pg_backend_pid()", &[])
        .await
        .unwrap()
        .get(0);
    let sql = "SELECT pid FROM pg_stat_activity WHERE application_name = 'leadpool monitor'";
    let monitors = client.query(sql, &[]).await.unwrap();
    servers.freeze_postmaster(0).await.unwrap();
    for monitor in monitors {
        servers.freeze_backend(0, monitor.get(0)).await.unwrap();
    }
    let mut events = pool.cluster().events();
    without_loss(&pool, async {
        until(&mut events, "the suspicion", |event| {
            matches!(event, Event::HostSuspect { .. })
        })
        .await;
        // Longer than every limit.
        let begun = Instant::now();
        while begun.elapsed() < Duration::from_secs(8) {
            client.simple_query("SELECT pg_sleep(0.1)").await.unwrap();
        }
    })
    .await;
    // What it sends itself is no sign of life of the host's.
    servers.freeze_backend(0, backend).await.unwrap();
    let begun = Instant::now();
    soon("the abort", async {
        let hasty = Duration::from_millis(50);
        loop {
            let asking = client.simple_query("SELECT 1");
            if let Ok(Err(error)) = tokio::time::timeout(hasty, asking).await {
                break assert!(error.is_closed());
            }
        }
    })
    .await;
    println!(
        "frozen as well, it was given up after {:.2?}",
        begun.elapsed()
    );
}

/// As when the name is not resolved for a while: no new session can be had, for nobody.
#[tokio::test]
async fn a_host_that_gives_no_new_sessions_is_not_gone() {
    let servers = Servers::builder().standbys(1).start().await.unwrap();
    let stalling = Stalling::before(servers.addr(1).unwrap()).await;
    // While a writer is missing the monitor wants a fresh connection to a standby each second.
    let pool = connect_with(&stalling.url(), |config| config.target(Target::Standby))
        .await
        .unwrap();
    let client = pool.get().await.unwrap();
    stalling.stall(Phase::Accepted, Whom::Everybody);
    // Longer than every limit.
    let query = client.simple_query("SELECT pg_sleep(9)");
    without_loss(&pool, soon("the query", query)).await.unwrap();
    // Others are served by what is idle, too.
    drop(client);
    let client = soon("an idle connection", pool.get()).await.unwrap();
    client.simple_query("SELECT 1").await.unwrap();
}

/// As when thousands of clients want fresh connections, and get none in time.
#[tokio::test]
async fn a_host_that_is_slow_to_open_sessions_is_asked_for_few() {
    let servers = Servers::builder().standbys(1).start().await.unwrap();
    let stalling = Stalling::before(servers.addr(1).unwrap()).await;
    let pool = connect_with(&stalling.url(), |config| config.target(Target::Standby))
        .await
        .unwrap();
    stalling.stall(Phase::Accepted, Whom::Everybody);
    let before = stalling.accepted();
    soon("the first try", async {
        while stalling.accepted() == before {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
    let answered = || pool.cluster().topology().hosts()[0].last_answer;
    let (mut probes, mut last) = (0, answered());
    soon("the probes", async {
        while probes < 40 {
            tokio::time::sleep(Duration::from_millis(5)).await;
            let now = answered();
            probes += u64::from(now != last);
            last = now;
        }
    })
    .await;
    let opened = stalling.accepted() - before;
    println!("{opened} connections for {probes} probes");
    assert!(opened < probes / 4, "{opened}");
}

#[tokio::test]
async fn a_stalled_application_blames_no_host() {
    let (servers, pool) = start_one().await;
    let client = pool.get().await.unwrap();
    // A probe is always on its way.
    let way = Duration::from_millis(400);
    servers.proxy(0).unwrap().delay(way, way);
    let mut events = pool.cluster().events();
    let query = async { client.simple_query("SELECT pg_sleep(8)").await };
    let stall = async {
        for _ in 0..3 {
            until(&mut events, "the suspicion", |event| {
                matches!(event, Event::HostSuspect { .. })
            })
            .await;
            // This is the only thread: proxy, monitor and connection stand still with it.
            std::thread::sleep(Duration::from_secs(6));
        }
    };
    let both = async { tokio::join!(query, stall).0 };
    without_loss(&pool, both).await.unwrap();
}
