//! What the tests share.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use leadpool::{
    Cluster, Config, Error, Event, Events, Pool, config::ConfigBuilder, topology::Topology,
};
use leadpool_testkit::Cluster as Servers;

/// A pool with default settings, and what it follows.
pub(crate) async fn start() -> (Servers, Pool) {
    let servers = Servers::start().await.unwrap();
    prepare(&servers).await;
    let pool = Pool::connect(&servers.url()).await.unwrap();
    (servers, pool)
}

/// The same through proxies.
pub(crate) async fn start_proxied() -> (Servers, Pool) {
    start_proxied_with("").await
}

/// The same without the question for TLS, which is a round trip of its own.
pub(crate) async fn start_proxied_plain() -> (Servers, Pool) {
    start_proxied_with("?sslmode=disable").await
}

async fn start_proxied_with(parameters: &str) -> (Servers, Pool) {
    let servers = Servers::builder().proxies(true).start().await.unwrap();
    prepare(&servers).await;
    let url = servers.proxied_url() + parameters;
    let pool = Pool::connect(&url).await.unwrap();
    (servers, pool)
}

/// Makes the table that the tests write to.
pub(crate) async fn prepare(servers: &Servers) {
    let client = servers.connect(servers.primary()).await.unwrap();
    client
        .batch_execute("CREATE TABLE t (id bigserial PRIMARY KEY, n bigint)")
        .await
        .unwrap();
    servers.wait_replayed().await.unwrap();
}

/// A pool with settings of its own.
pub(crate) async fn connect_with(
    url: &str,
    change: impl FnOnce(ConfigBuilder) -> ConfigBuilder,
) -> Result<Pool, Error> {
    let config: Config = change(Config::builder(url)).build()?;
    Ok(Pool::new(&Cluster::connect(config).await?))
}

/// Where a client is connected to.
pub(crate) async fn port(client: &deadpool_postgres::Client) -> u16 {
    let row = client
        .query_one("SELECT inet_server_port()", &[])
        .await
        .unwrap();
    u16::try_from(row.get::<_, i32>(0)).unwrap()
}

/// How many rows the primary has.
pub(crate) async fn rows(servers: &Servers) -> i64 {
    let client = servers.connect(servers.primary()).await.unwrap();
    client
        .query_one("SELECT count(*) FROM t", &[])
        .await
        .unwrap()
        .get(0)
}

/// Fails a test that hangs, with a name for what hung.
pub(crate) async fn soon<T>(what: &str, future: impl Future<Output = T>) -> T {
    match tokio::time::timeout(Duration::from_secs(20), future).await {
        Ok(value) => value,
        Err(_) => panic!("{what}: still waiting after 20 s"),
    }
}

/// Waits until the monitor's picture shows something.
pub(crate) async fn seen(pool: &Pool, what: &str, found: impl Fn(&Topology) -> bool) {
    soon(what, async {
        while !found(&pool.cluster().topology()) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
}

/// Waits for an event.
pub(crate) async fn until(
    events: &mut Events,
    what: &str,
    mut found: impl FnMut(&Event) -> bool,
) -> Event {
    soon(what, async {
        loop {
            let event = events.next().await.expect("the monitor lives");
            if found(&event) {
                return event;
            }
        }
    })
    .await
}

/// No session of an application is in a transaction, sooner or later.
pub(crate) async fn no_open_transactions(servers: &Servers) {
    let client = servers.connect(servers.primary()).await.unwrap();
    let sql = "SELECT count(*) FROM pg_stat_activity \
               WHERE state LIKE 'idle in transaction%' AND application_name <> 'testkit'";
    soon("the end of all transactions", async {
        while client.query_one(sql, &[]).await.unwrap().get::<_, i64>(0) > 0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
}

/// Eight tasks write sixty keys each, while the backends of the first host are ended again and
/// again. What `write` says was committed must be there, and nothing twice.
pub(crate) async fn written_once_while_terminated<F, Fut>(servers: &Servers, write: F)
where
    F: Fn(i64) -> Fut + Clone + Send + Sync + 'static,
    Fut: Future<Output = Result<(), Error>> + Send,
{
    let ended = Arc::new(AtomicUsize::new(0));
    let mut tasks = tokio::task::JoinSet::new();
    for task in 0..8_i64 {
        let (write, ended) = (write.clone(), ended.clone());
        tasks.spawn(async move {
            let mut acknowledged = Vec::new();
            for entry in 0..60_i64 {
                let key = task * 1000 + entry;
                loop {
                    match write(key).await {
                        Ok(()) => acknowledged.push(key),
                        Err(Error::Unknown(_)) => {}
                        // Out of luck: the others got through while this one was hit each time.
                        // Nothing was committed, it says: then this makes no second one.
                        Err(Error::RetriesExhausted { .. }) => continue,
                        Err(error) => panic!("{error}"),
                    }
                    break;
                }
                ended.fetch_add(1, Ordering::Relaxed);
            }
            acknowledged
        });
    }
    let mut acknowledged = Vec::new();
    let mut terminations = 0;
    // One after the other: one that was given up would go on, and end the next one's connection.
    while !tasks.is_empty() {
        let before = ended.load(Ordering::Relaxed);
        servers.terminate_backends(0).await.unwrap();
        terminations += 1;
        // Some get through before the next one, however slow the machine is.
        let mut is_next = false;
        while !is_next && !tasks.is_empty() {
            tokio::time::sleep(Duration::from_millis(5)).await;
            is_next = ended.load(Ordering::Relaxed) >= before + 8;
            while let Some(ended) = tasks.try_join_next() {
                acknowledged.extend(ended.unwrap());
            }
        }
    }
    assert!(terminations > 3, "{terminations}");
    let client = servers.connect(0).await.unwrap();
    let sql = "SELECT n FROM t ORDER BY n";
    let present = client.query(sql, &[]).await.unwrap();
    let present: Vec<i64> = present.iter().map(|row| row.get(0)).collect();
    let mut once = present.clone();
    once.dedup();
    assert_eq!(present, once, "nothing twice");
    for key in acknowledged {
        assert!(
            present.binary_search(&key).is_ok(),
            "{key} was acknowledged"
        );
    }
}
