//! Consistency tokens, from answers to the next requests.

use leadpool::{
    Pool,
    consistency::{ConsistencyToken, SigningKeys},
    topology::Lsn,
};
use leadpool_testkit::Cluster as Servers;

use super::*;
use crate::{
    drivers::apps,
    support::{App, native_seen, native_seen_inside, send, web::ReadYourWrites},
};

/// What a client keeps of an answer: the cookie, without its attributes.
fn kept(answer: &Answer) -> Option<String> {
    let cookie = answer.header("set-cookie")?;
    Some(cookie.split(';').next()?.to_owned())
}

fn token_in(answer: &Answer) -> ConsistencyToken {
    let cookie = kept(answer).unwrap();
    keys()
        .verify(cookie.strip_prefix("leadpool-seen=").unwrap())
        .unwrap()
}

async fn get_with(app: &App, path: &str, cookie: &str) -> Answer {
    send(app, Asked::new("GET", path).header("cookie", cookie)).await
}

/// Where a read was, and how many rows it saw.
fn sight(answer: &Answer) -> (String, i64) {
    assert_eq!(answer.status, 200, "{answer:?}");
    let (port, rows) = answer.body.split_once('/').unwrap();
    (port.to_owned(), rows.parse().unwrap())
}

async fn on_standbys(servers: &Servers, sql: &str) {
    for host in 0..servers.hosts() {
        if host != servers.primary() {
            let client = servers.connect(host).await.unwrap();
            client.batch_execute(sql).await.unwrap();
        }
    }
}

#[crate::support::test]
async fn a_client_sees_what_it_wrote_and_others_may_wait_for_it() {
    let servers = start().await;
    let primary = port_of(&servers, servers.primary());
    on_standbys(&servers, "SELECT pg_wal_replay_pause()").await;
    let apps = apps(&servers.url()).await;
    let mut cookies = Vec::new();
    for (at, (driver, app)) in apps.iter().enumerate() {
        until("a reader on a standby", async || {
            sight(&get(app, "/reader").await).0 != primary
        })
        .await;
        let wrote = post(app, if at % 2 == 0 { "/writer" } else { "/tx/ok" }).await;
        let cookie = kept(&wrote).unwrap();
        let rows = i64::try_from(at).unwrap() + 1;
        let read = sight(&get_with(app, "/reader", &cookie).await);
        assert_eq!(read, (primary.clone(), rows), "{driver}");
        let (port, rows) = sight(&get(app, "/reader").await);
        assert_ne!(port, primary, "{driver}");
        assert_eq!(rows, 0, "{driver}");
        cookies.push(cookie);
    }
    on_standbys(&servers, "SELECT pg_wal_replay_resume()").await;
    // In whichever application it was written.
    let last = cookies.last().unwrap();
    for (driver, app) in &apps {
        until("the standby that has it", async || {
            let read = get_with(app, "/reader", last).await;
            // What serves has no reason to be replaced.
            assert_eq!(kept(&read), None, "{driver}");
            let (port, rows) = sight(&read);
            assert_eq!(rows, 4, "{driver}");
            port != primary
        })
        .await;
    }
}

#[crate::support::test]
async fn who_has_written_gets_a_token_and_nobody_else() {
    let servers = start().await;
    let pool = Pool::connect(&servers.url()).await.unwrap();
    let layer = ReadYourWrites::new(pool.cluster(), keys());
    let app = native_seen(pool.clone(), layer).await;
    assert_eq!(kept(&get(&app, "/reader").await), None);
    assert_eq!(kept(&get(&app, "/time_left").await), None);
    for path in ["/writer", "/tx/ok", "/tx/see-other"] {
        let before = pool.token().await.unwrap();
        let token = token_in(&post(&app, path).await);
        assert!(token.position() > before.position(), "{path}: {token}");
    }
    // A read that says that it writes.
    assert!(token_in(&get(&app, "/visit").await).position().is_some());
    // One that is told is not asked for.
    let told = post(&app, "/told").await;
    assert_eq!(token_in(&told).to_string(), told.body);
    // Refused: nothing happened. Failed: who knows.
    assert_eq!(kept(&post(&app, "/tx/refuse").await), None);
    for path in ["/tx/unavailable", "/tx/fail"] {
        let token = token_in(&post(&app, path).await);
        assert_eq!(token.position(), None, "{path}");
        assert_eq!(
            token.system_identifier(),
            pool.cluster().topology().system_identifier
        );
    }
}

#[crate::support::test]
async fn the_cookie_is_for_nobody_else() {
    let servers = start().await;
    let pool = Pool::connect(&servers.url()).await.unwrap();
    let layer = ReadYourWrites::new(pool.cluster(), keys());
    let app = native_seen(pool.clone(), layer.clone()).await;
    let wrote = post(&app, "/writer").await;
    let cookie = wrote.header("set-cookie").unwrap();
    let (_, attributes) = cookie.split_once("; ").unwrap();
    let mut attributes: Vec<&str> = attributes.split("; ").collect();
    attributes.sort_unstable();
    let wanted = [
        "HttpOnly",
        "Max-Age=3600",
        "Path=/",
        "SameSite=Lax",
        "Secure",
    ];
    assert_eq!(attributes, wanted, "{cookie}");
    let other = layer.cookie("seen").unwrap().path("/shop").unwrap();
    let other = other.lasts(std::time::Duration::from_secs(60)).insecure();
    let app = native_seen(pool, other).await;
    let wrote = post(&app, "/writer").await;
    let cookie = wrote.header("set-cookie").unwrap();
    assert!(cookie.starts_with("seen=lp1."), "{cookie}");
    assert!(cookie.contains("; Path=/shop"), "{cookie}");
    assert!(cookie.contains("; Max-Age=60"), "{cookie}");
    assert!(!cookie.contains("Secure"), "{cookie}");
}

#[crate::support::test]
async fn names_that_no_header_has_are_refused() {
    let servers = start().await;
    let pool = Pool::connect(&servers.url()).await.unwrap();
    let layer = || ReadYourWrites::new(pool.cluster(), keys());
    for name in ["", "a b", "a\r\nset-cookie: x", "ä", "a=b", "a;b"] {
        let error = layer().cookie(name).unwrap_err().to_string();
        assert!(error.contains(&format!("{name:?}")), "{error}");
        assert!(layer().header(name).is_err(), "{name}");
    }
    for path in ["", "shop", "/a;b", "/a b", "/ä"] {
        let error = layer().path(path).unwrap_err().to_string();
        assert!(error.contains(&format!("{path:?}")), "{error}");
    }
}

/// Tokens that nobody should rely on, with what they are.
fn strange(pool: &Pool) -> [(&'static str, String); 6] {
    let id = pool.cluster().topology().system_identifier;
    let token = keys().sign(&ConsistencyToken::new(id, 1, Lsn::new(8)));
    let others = SigningKeys::new([[9; 32]]).unwrap();
    let digits = token.rsplit_once('.').unwrap().1;
    [
        ("forged", format!("lp1.1.1.FF.{digits}")),
        ("of another key", others.sign(&token_of(id))),
        ("truncated", token[..token.len() - 1].to_owned()),
        ("not signed", token_of(id).to_string()),
        ("empty", String::new()),
        ("a bomb", "lp1.".repeat(10_000)),
    ]
}

fn token_of(id: Option<u64>) -> ConsistencyToken {
    ConsistencyToken::new(id, 1, Lsn::new(8))
}

#[crate::support::test]
async fn a_cookie_that_is_no_token_is_taken_back() {
    let servers = start().await;
    let pool = Pool::connect(&servers.url()).await.unwrap();
    let layer = ReadYourWrites::new(pool.cluster(), keys());
    let app = native_seen(pool.clone(), layer).await;
    for (what, text) in strange(&pool) {
        let read = get_with(&app, "/reader", &format!("a=b; leadpool-seen={text}; c=d")).await;
        sight(&read);
        let cookie = read.header("set-cookie").unwrap_or_default();
        assert!(cookie.starts_with("leadpool-seen=;"), "{what}: {cookie}");
        assert!(cookie.contains("Max-Age=0"), "{what}: {cookie}");
        assert!(cookie.contains("Path=/"), "{what}: {cookie}");
    }
    // Cookies of others are none of its business.
    let others = "leadpool-see=x; xleadpool-seen=y; =; ;; leadpool-seen";
    assert_eq!(kept(&get_with(&app, "/reader", others).await), None);
    let many = "a=b; ".repeat(10_000);
    assert_eq!(kept(&get_with(&app, "/reader", &many).await), None);
    // One that somebody has put in front does no harm.
    let good = kept(&post(&app, "/writer").await).unwrap();
    let both = format!("leadpool-seen=x; {good}");
    assert_eq!(kept(&get_with(&app, "/reader", &both).await), None);
    let bomb = format!("{}{good}", "leadpool-seen=x; ".repeat(10_000));
    let read = get_with(&app, "/reader", &bomb).await;
    assert!(read.header("set-cookie").unwrap().contains("Max-Age=0"));
}

#[crate::support::test]
async fn a_header_that_holds_no_token_is_refused() {
    let servers = start().await;
    let pool = Pool::connect(&servers.url()).await.unwrap();
    let layer = ReadYourWrites::new(pool.cluster(), keys());
    let app = native_seen(pool.clone(), layer.header("X-Seen").unwrap()).await;
    let asked = |text: &str| Asked::new("GET", "/reader").header("x-seen", text);
    let mut strange = strange(&pool).to_vec();
    let foreign = ConsistencyToken::new(Some(1), 1, Lsn::new(8));
    strange.push(("foreign", keys().sign(&foreign)));
    for (what, text) in strange {
        let refused = send(&app, asked(&text)).await;
        refused.assert_problem(400, "refused", &servers);
        let detail = refused.json()["detail"].to_string();
        assert!(detail.contains("x-seen"), "{what}: {detail}");
        assert!(
            text.is_empty() || !detail.contains(&text),
            "{what}: {detail}"
        );
    }
    let wrote = post(&app, "/writer").await;
    assert_eq!(wrote.header("set-cookie"), None);
    let token = wrote.header("x-seen").unwrap();
    let read = send(&app, asked(token)).await;
    assert_eq!(sight(&read).1, 1);
    assert_eq!(read.header("x-seen"), None);
    let twice = send(&app, asked(token).header("x-seen", token)).await;
    twice.assert_problem(400, "refused", &servers);
}

#[crate::support::test]
async fn tokens_of_another_cluster_or_of_nowhere_are_replaced() {
    let servers = start().await;
    let pool = Pool::connect(&servers.url()).await.unwrap();
    let primary = port_of(&servers, servers.primary());
    let id = pool.cluster().topology().system_identifier;
    let layer = ReadYourWrites::new(pool.cluster(), keys());
    let app = native_seen(pool, layer).await;
    let far = ConsistencyToken::new(id, 1, Lsn::new(u64::MAX / 2));
    for (what, token) in [
        ("foreign", ConsistencyToken::new(Some(1), 1, Lsn::new(8))),
        ("of the writer", ConsistencyToken::of_writer(id)),
        ("future", far),
    ] {
        let cookie = format!("leadpool-seen={}", keys().sign(&token));
        let read = get_with(&app, "/reader", &cookie).await;
        assert_eq!(sight(&read).0, primary, "{what}");
        let next = token_in(&read);
        assert_eq!(next.system_identifier(), id, "{what}");
        assert!(next.position() < far.position(), "{what}: {next}");
        until("a standby", async || {
            let next = kept(&read).unwrap();
            sight(&get_with(&app, "/reader", &next).await).0 != primary
        })
        .await;
    }
    // Of a failover that nobody here has seen.
    let later = ConsistencyToken::new(id, 9, Lsn::new(8));
    let cookie = format!("leadpool-seen={}", keys().sign(&later));
    let refused = get_with(&app, "/reader", &cookie).await;
    refused.assert_problem(503, "try_again", &servers);
    assert_eq!(kept(&refused), None);
}

#[crate::support::test]
async fn a_token_survives_a_failover_and_one_of_what_was_lost_is_replaced() {
    let servers = start().await;
    let pool = Pool::connect(&servers.url()).await.unwrap();
    let id = pool.cluster().topology().system_identifier;
    let layer = ReadYourWrites::new(pool.cluster(), keys());
    let app = native_seen(pool.clone(), layer).await;
    let before = kept(&post(&app, "/writer").await).unwrap();
    servers.wait_replayed().await.unwrap();
    servers.kill(0).await.unwrap();
    servers.failover().await.unwrap();
    until("the next writer", async || {
        post(&app, "/tx/ok").await.status == 200
    })
    .await;
    let read = get_with(&app, "/reader", &before).await;
    assert!(sight(&read).1 >= 1);
    assert_eq!(kept(&read), None, "it was kept");
    // Beyond the place where the new timeline began.
    let lost = ConsistencyToken::new(id, 1, Lsn::new(u64::MAX / 2));
    let cookie = format!("leadpool-seen={}", keys().sign(&lost));
    let read = get_with(&app, "/reader", &cookie).await;
    assert_eq!(sight(&read).0, port_of(&servers, servers.primary()));
    assert_eq!(token_in(&read).timeline(), Some(2));
}

#[crate::support::test]
async fn without_a_writer_reads_go_on_and_writers_are_told_nothing_wrong() {
    let servers = start().await;
    let url = servers.url() + "?checkout_timeout=300ms&tx_deadline=300ms";
    let pool = Pool::connect(&url).await.unwrap();
    let layer = ReadYourWrites::new(pool.cluster(), keys());
    let app = native_seen(pool, layer).await;
    let cookie = kept(&post(&app, "/writer").await).unwrap();
    servers.wait_replayed().await.unwrap();
    servers.kill(0).await.unwrap();
    until("a standby", async || {
        get_with(&app, "/reader", &cookie).await.status == 200
    })
    .await;
    let failed = soon("the refusal", post(&app, "/writer")).await;
    failed.assert_problem(503, "unavailable", &servers);
    assert_eq!(token_in(&failed).position(), None);
}

#[crate::support::test]
async fn a_layer_inside_of_the_transaction_is_told() {
    let servers = start().await;
    let pool = Pool::connect(&servers.url()).await.unwrap();
    let layer = ReadYourWrites::new(pool.cluster(), keys());
    let app = native_seen_inside(pool, layer).await;
    assert_eq!(post(&app, "/writer").await.status, 200);
    let answer = post(&app, "/tx/ok").await;
    assert_eq!(answer.status, 500, "{answer:?}");
    assert!(answer.body.contains("around Transactions"), "{answer:?}");
    assert_eq!(rows(&servers).await, 1, "only what needed no transaction");
}
