//! The page that shows the cluster.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use leadpool::{Pool, web::end_streams};
use serde_json::Value;

use super::*;
use crate::support::{dashboard_of, for_admins, send, spawn, web::Dashboard};

/// The frames of a stream that has ended.
fn frames(answer: &Answer) -> Vec<Value> {
    assert_eq!(answer.status, 200, "{answer:?}");
    assert_eq!(answer.header("content-type"), Some("text/event-stream"));
    assert_eq!(answer.header("cache-control"), Some("no-store"));
    let events = answer.body.split_terminator("\n\n");
    events
        .map(|event| {
            let data = event.lines().find_map(|line| line.strip_prefix("data: "));
            serde_json::from_str(data.unwrap()).unwrap()
        })
        .collect()
}

#[crate::support::test]
async fn nobody_sees_it_who_may_not() {
    let servers = start().await;
    let pool = Pool::connect(&servers.url()).await.unwrap();
    let nobody = dashboard_of(Dashboard::new(pool.clone())).await;
    let some = dashboard_of(for_admins(Dashboard::new(pool))).await;
    for path in ["/dashboard", "/dashboard/events"] {
        for app in [&nobody, &some] {
            let refused = soon(path, get(app, path)).await;
            refused.assert_problem(403, "refused", &servers);
        }
    }
    let asked = |method| Asked::new(method, "/dashboard").header("x-admin", "me");
    assert_eq!(send(&nobody, asked("GET")).await.status, 403);
    let page = send(&some, asked("GET")).await;
    assert_eq!(page.status, 200);
    let kind = page.header("content-type");
    assert_eq!(kind, Some("text/html; charset=utf-8"));
    assert_eq!(page.header("cache-control"), Some("no-store"));
    let policy = page.header("content-security-policy").unwrap();
    assert!(policy.starts_with("default-src 'none'"), "{policy}");
    assert!(page.body.starts_with("<!doctype html>"));
    assert_eq!(send(&some, asked("HEAD")).await.status, 200);
    assert!(send(&some, asked("POST")).await.status >= 400);
    assert_eq!(get(&some, "/dashboard/other").await.status, 404);
}

#[crate::support::test]
async fn it_tells_of_a_failover_as_it_happens() {
    let servers = start().await;
    let pool = Pool::connect(&servers.url()).await.unwrap();
    let app = dashboard_of(Dashboard::new(pool.clone()).allow(|_| true)).await;
    let (one, other) = (app.clone(), app.clone());
    let watching = spawn(async move { get(&one, "/dashboard/events").await });
    let first = servers.addr(0).unwrap().to_string();
    servers.kill(0).await.unwrap();
    until("the loss", async || pool.status().writer.is_none()).await;
    // Frames have their pace.
    tokio::time::sleep(Duration::from_millis(300)).await;
    servers.failover().await.unwrap();
    let second = servers.addr(servers.primary()).unwrap().to_string();
    let run = pool.run_tx(|tx| async move {
        tx.execute("INSERT INTO t (n) VALUES (1)", &[]).await?;
        Ok(())
    });
    soon("the next writer", run).await.unwrap();
    // Who comes later sees what was.
    let later = spawn(async move { get(&other, "/dashboard/events").await });
    tokio::time::sleep(Duration::from_millis(300)).await;
    end_streams(pool.cluster());
    let seen = frames(&soon("the end", watching).await.unwrap());
    assert_eq!(seen[0]["status"]["writer"], first);
    assert!(
        seen.iter().any(|frame| frame["status"]["writer"].is_null()),
        "{seen:#?}"
    );
    let last = seen.last().unwrap();
    assert_eq!(last["status"]["writer"], second);
    assert_eq!(last["status"]["hosts"].as_array().unwrap().len(), 3);
    assert_eq!(last["status"]["transactions"]["committed"], 1);
    let later = frames(&soon("the end", later).await.unwrap());
    for frame in [last, &later[0]] {
        let writers = frame["writers"].as_array().unwrap();
        assert_eq!(writers.len(), 2, "{frame:#}");
        assert_eq!(
            (&writers[0]["host"], &writers[0]["term"]),
            (&first.clone().into(), &1.into())
        );
        assert_eq!(
            (&writers[1]["host"], &writers[1]["term"]),
            (&second.clone().into(), &2.into())
        );
        let (until, from) = (&writers[0]["until"], &writers[1]["from"]);
        assert!(
            until.as_u64().unwrap() <= from.as_u64().unwrap(),
            "{frame:#}"
        );
        assert!(writers[1]["until"].is_null());
        let events = frame["events"].as_array().unwrap();
        let lost = events
            .iter()
            .find(|event| event["name"] == "writer_changed");
        assert_eq!(
            lost.unwrap()["detail"],
            format!("no writer, before: {first}")
        );
        assert!(frame["since"].as_u64() <= frame["at"].as_u64());
    }
}

#[crate::support::test]
async fn who_comes_when_all_places_are_taken_is_refused() {
    let servers = start().await;
    let pool = Pool::connect(&servers.url()).await.unwrap();
    let dashboard = Dashboard::new(pool.clone()).allow(|_| true);
    let app = dashboard_of(dashboard.most_watchers(16)).await;
    let refused = Arc::new(AtomicUsize::new(0));
    let all: Vec<_> = (0..10_000)
        .map(|_| {
            let (app, refused) = (app.clone(), refused.clone());
            spawn(async move {
                let answer = get(&app, "/dashboard/events").await;
                if answer.status == 503 {
                    assert_eq!(answer.json()["code"], "overloaded");
                    assert_eq!(answer.header("retry-after"), Some("5"));
                    refused.fetch_add(1, Ordering::SeqCst);
                }
                answer.status
            })
        })
        .collect();
    until("the refusals", async || {
        refused.load(Ordering::SeqCst) == 10_000 - 16
    })
    .await;
    // Those who had come are still there, and the others leave nothing behind.
    let mut all = all.into_iter();
    let first = all.next().unwrap();
    assert!(!first.is_finished());
    first.abort();
    until("the place of who has gone", async || {
        let (app, ended) = (app.clone(), Arc::new(AtomicUsize::new(0)));
        let status = ended.clone();
        let next = spawn(async move {
            let answer = get(&app, "/dashboard/events").await;
            status.store(answer.status.into(), Ordering::SeqCst);
        });
        tokio::time::sleep(Duration::from_millis(50)).await;
        next.abort();
        ended.load(Ordering::SeqCst) == 0
    })
    .await;
    end_streams(pool.cluster());
    let mut watched = 0;
    for one in all {
        if soon("the end", one).await.unwrap() == 200 {
            watched += 1;
        }
    }
    assert_eq!(watched, 15);
}

#[crate::support::test]
async fn it_keeps_nothing_alive_that_is_dropped() {
    let servers = start().await;
    let pool = Pool::connect(&servers.url()).await.unwrap();
    let dashboard = Dashboard::new(pool).allow(|_| true);
    let client = servers.connect(servers.primary()).await.unwrap();
    let sql = "SELECT count(*) FROM pg_stat_activity \
               WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()";
    let sessions = async || {
        let row = client.query_one(sql, &[]).await.unwrap();
        row.get::<_, i64>(0)
    };
    let before = sessions().await;
    assert!(before > 0, "no session of the pool to be seen");
    drop(dashboard);
    until("the end of the pool", async || sessions().await == 0).await;
}
