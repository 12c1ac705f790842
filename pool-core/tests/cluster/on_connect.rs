//! What every new connection begins with.

use std::{
    error::Error as _,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use deadpool_postgres::{Client, PoolError};
use leadpool::{Error, Pool, Target, config::Recycling, error::HookFailed};
use leadpool_testkit::Cluster as Servers;

use crate::support::*;

async fn show(client: &Client, name: &str) -> String {
    let sql = "SELECT current_setting($1)";
    client.query_one(sql, &[&name]).await.unwrap().get(0)
}

async fn alone() -> Servers {
    let servers = Servers::builder().standbys(0).start().await.unwrap();
    prepare(&servers).await;
    servers
}

#[tokio::test]
async fn settings_reach_every_connection_and_outlast_a_reset() {
    let servers = Servers::start().await.unwrap();
    let odd = " a\\b  'c'\t\"d\"\n-c work_mem=1MB é";
    let url = format!(
        "{}?options=-c%20work_mem%3D70kB%20-c%20app.b%3D1",
        servers.url()
    );
    let pool = connect_with(&url, |config| {
        config
            .session_setting("app.odd", odd)
            .session_setting("app.b", "2")
            .recycling(Recycling::Clean)
    })
    .await
    .unwrap();
    let clients = [
        pool.get().await.unwrap(),
        pool.get_as(Target::Standby).await.unwrap(),
        pool.deadpool_pool().get().await.unwrap(),
    ];
    for client in &clients {
        client
            .batch_execute("SET app.odd = 'x'; RESET ALL")
            .await
            .unwrap();
        assert_eq!(show(client, "app.odd").await, odd);
        assert_eq!(show(client, "app.b").await, "2");
        assert_eq!(show(client, "work_mem").await, "70kB");
    }
}

#[tokio::test]
async fn settings_are_not_for_the_monitor() {
    let servers = alone().await;
    // The server refuses whoever brings it along.
    let pool = connect_with(&servers.url(), |config| {
        config.session_setting("no_such_setting", "1")
    })
    .await
    .unwrap();
    let error = soon("the refusal", pool.get()).await.unwrap_err();
    assert!(matches!(error, Error::Connect(_)), "{error}");
    assert_eq!(error.sqlstate(), Some("42704"), "{error}");
    assert!(error.to_string().contains("no_such_setting"), "{error}");
}

#[tokio::test]
async fn hooks_run_in_order_on_each_new_connection_and_only_there() {
    let servers = Servers::start().await.unwrap();
    prepare(&servers).await;
    let order = Arc::new(Mutex::new(Vec::new()));
    let (first, second) = (order.clone(), order.clone());
    let pool = Pool::builder(&servers.url())
        .on_connect(move |client| {
            let order = first.clone();
            Box::pin(async move {
                client.batch_execute("SET app.hook = 'first'").await?;
                order.lock().unwrap().push(1);
                Ok(())
            })
        })
        .configure(|config| {
            config.on_connect(move |client| {
                let order = second.clone();
                Box::pin(async move {
                    // A transaction takes the client as its own.
                    let tx = client.transaction().await?;
                    let sql = "SELECT set_config('app.hook', current_setting('app.hook') || ', second', false)";
                    tx.execute(sql, &[]).await?;
                    tx.commit().await?;
                    order.lock().unwrap().push(2);
                    Ok(())
                })
            })
        })
        .build()
        .await
        .unwrap();
    for _ in 0..3 {
        let client = pool.get().await.unwrap();
        assert_eq!(show(&client, "app.hook").await, "first, second");
    }
    assert_eq!(*order.lock().unwrap(), [1, 2]);
    for client in [
        pool.get_as(Target::Standby).await.unwrap(),
        pool.deadpool_pool().get().await.unwrap(),
    ] {
        assert_eq!(show(&client, "app.hook").await, "first, second");
    }
    assert_eq!(*order.lock().unwrap(), [1, 2, 1, 2, 1, 2]);
}

#[tokio::test]
async fn what_a_hook_fails_with_is_told() {
    let servers = alone().await;
    let host = servers.addr(0).unwrap().to_string();
    let pool = Pool::builder(&servers.url())
        .on_connect(|_| Box::pin(async { Ok(()) }))
        .on_connect(|client| Box::pin(async { Ok(client.batch_execute("SELECT nonsense").await?) }))
        .on_connect(|_| Box::pin(async { panic!("the ones behind it don't run") }))
        .build()
        .await
        .unwrap();
    let error = soon("the refusal", pool.get()).await.unwrap_err();
    let text = error.to_string();
    assert!(text.contains("hook 2") && text.contains(&host), "{text}");
    assert!(text.contains("nonsense"), "{text}");
    assert_eq!(error.sqlstate(), Some("42703"));
    let Error::Connect(refused) = &error else {
        panic!("{error:?}");
    };
    let hook = refused.source().unwrap().downcast_ref::<HookFailed>();
    assert_eq!(hook.unwrap().hook, 2);
    assert_eq!(pool.status().sub_pools[0].counts.size, 0);
    let error = pool.deadpool_pool().get().await.unwrap_err();
    let PoolError::Backend(error) = error else {
        panic!("{error}");
    };
    assert_eq!(error.code().unwrap().code(), "42703");

    // What no server has said is not cured by waiting either.
    let pool = Pool::builder(&servers.url())
        .on_connect(|_| Box::pin(async { Err("the schema is too old".into()) }))
        .build()
        .await
        .unwrap();
    let error = soon("the refusal", pool.get()).await.unwrap_err();
    assert!(matches!(error, Error::Connect(_)), "{error}");
    assert!(
        error.to_string().contains("the schema is too old"),
        "{error}"
    );
}

#[tokio::test]
async fn what_waiting_cures_is_waited_out() {
    let servers = alone().await;
    let tries = Arc::new(AtomicUsize::new(0));
    let count = tries.clone();
    let pool = Pool::builder(&servers.url())
        .on_connect(move |client| {
            let number = count.fetch_add(1, Ordering::SeqCst);
            Box::pin(async move {
                if number < 2 {
                    let full = "DO $$ BEGIN RAISE EXCEPTION 'full' USING ERRCODE = '53300'; END $$";
                    client.batch_execute(full).await?;
                }
                Ok(())
            })
        })
        .build()
        .await
        .unwrap();
    drop(soon("a checkout", pool.get()).await.unwrap());
    assert_eq!(tries.load(Ordering::SeqCst), 3);
}

#[tokio::test]
async fn a_hook_that_hangs_is_ended_by_the_connect_timeout() {
    let servers = alone().await;
    let pool = Pool::builder(&servers.url())
        .configure(|config| config.connect_timeout(Duration::from_millis(200)))
        .on_connect(|client| {
            Box::pin(async { Ok(client.batch_execute("SELECT pg_sleep(600)").await?) })
        })
        .build()
        .await
        .unwrap();
    let get = pool.timeout_get(Target::Primary, Duration::from_millis(900));
    let error = soon("the deadline", get).await.unwrap_err();
    let Error::NoHost(error) = error else {
        panic!("{error}");
    };
    let source = error.source().unwrap().to_string();
    assert!(source.contains("on_connect"), "{source}");
    assert_eq!(pool.status().sub_pools[0].counts.size, 0);
}
