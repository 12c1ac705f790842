//! Pauses and the end.

use std::{
    pin::pin,
    sync::{Arc, Mutex},
    time::Duration,
};

use super::{
    super::Purpose,
    counted::{Stage, until},
    is_pending,
};
use crate::{error::Error, failover::Event, topology::Target};

const LONG: Duration = Duration::from_secs(20);

#[tokio::test]
async fn checkouts_wait_for_the_end_of_a_pause_and_what_is_in_use_goes_on() {
    let stage = Stage::set(|config| config).await;
    let conn = stage.get(Purpose::New, Target::Primary).await.unwrap();
    let mut events = stage.cluster.events();
    let guard = stage.pools.pause(Duration::ZERO).await;
    assert_eq!(guard.in_use(), 1);
    assert!(stage.pools.status().paused);
    let mut waiting = pin!(stage.get(Purpose::New, Target::Primary));
    let mut reading = pin!(stage.get(Purpose::New, Target::Standby));
    assert!(is_pending(waiting.as_mut()).await && is_pending(reading.as_mut()).await);
    // A COMMIT in doubt is part of what is in use.
    drop(stage.get(Purpose::Outcome, Target::Primary).await.unwrap());
    drop(conn);
    assert_eq!(guard.wait(LONG).await, 0);
    assert!(is_pending(waiting.as_mut()).await && is_pending(reading.as_mut()).await);
    assert_eq!(guard.in_use(), 0);
    guard.resume();
    drop((waiting.await.unwrap(), reading.await.unwrap()));
    assert!(!stage.pools.status().paused);
    let mut said = Vec::new();
    while said.len() < 2 {
        let event = events.next().await.unwrap();
        if matches!(event, Event::Paused { .. } | Event::Resumed { .. }) {
            said.push(event);
        }
    }
    assert_eq!(
        said,
        [Event::Paused { all: false }, Event::Resumed { all: false }]
    );
}

#[tokio::test]
async fn a_pause_whose_routes_are_not_to_be_seen_yet_holds_too() {
    let stage = Stage::set(|config| config).await;
    drop(stage.get(Purpose::New, Target::Primary).await.unwrap());
    stage.writer().generation.set_paused(true);
    let mut waiting = pin!(stage.get(Purpose::New, Target::Primary));
    assert!(is_pending(waiting.as_mut()).await);
    assert_eq!(stage.counts(0).idle, 1, "given back, and not closed");
    stage.writer().generation.set_paused(false);
    drop(waiting.await.unwrap());
    assert_eq!(stage.counts(0).size, 1);
}

#[tokio::test]
async fn who_is_held_by_a_pause_stands_in_no_other_queue() {
    let stage = Stage::set(|config| config.writer_size(1).reader_size(1)).await;
    let conn = stage.get(Purpose::New, Target::Primary).await.unwrap();
    // Before the routes that say so are to be seen.
    stage.writer().generation.set_paused(true);
    let mut waiting = pin!(stage.get(Purpose::New, Target::Primary));
    for _ in 0..5 {
        assert!(is_pending(waiting.as_mut()).await);
        tokio::task::yield_now().await;
    }
    assert_eq!(stage.counts(0).waiting, 0);
    drop(conn);
    assert!(is_pending(waiting.as_mut()).await);
    assert_eq!(stage.counts(0).idle, 1);
    stage.writer().generation.set_paused(false);
    drop(waiting.await.unwrap());
}

#[tokio::test]
async fn those_who_wait_for_the_end_of_a_pause_go_on_in_their_order() {
    for target in [Target::Primary, Target::Standby, Target::Any] {
        let stage = Stage::set(|config| config.writer_size(1).reader_size(1)).await;
        let guard = stage.pools.pause(Duration::ZERO).await;
        let served = Arc::new(Mutex::new(Vec::new()));
        let mut tasks = tokio::task::JoinSet::new();
        for number in 0..20 {
            let (get, served) = (stage.get(Purpose::New, target), served.clone());
            tasks.spawn(async move {
                let _conn = get.await.unwrap();
                served.lock().unwrap().push(number);
            });
            until("its place", || stage.pools.status().waiting > number).await;
        }
        guard.resume();
        // Who comes now does not overtake.
        drop(stage.get(Purpose::New, target).await.unwrap());
        assert_eq!(served.lock().unwrap().len(), 20);
        tasks.join_all().await;
        assert_eq!(*served.lock().unwrap(), (0..20).collect::<Vec<_>>());
    }
}

#[tokio::test]
async fn a_pause_of_the_cluster_holds_every_pool_and_new_ones_too() {
    let mut stage = Stage::set(|config| config).await;
    let mine = stage.pools.pause(Duration::ZERO).await;
    let all = stage.cluster.pause(Duration::ZERO).await;
    let late = super::super::SubPools::new(&stage.cluster, super::counted::Counted::default());
    assert!(late.is_paused());
    drop(mine);
    assert!(stage.pools.is_paused(), "the cluster's lasts");
    // What changes meanwhile does not end it.
    stage.promoted(1, 2);
    assert!(stage.pools.is_paused());
    drop(all);
    assert!(!stage.pools.is_paused() && !late.is_paused());
}

#[tokio::test]
async fn resuming_ends_all_pauses_and_a_guard_that_comes_late_none() {
    let stage = Stage::set(|config| config).await;
    let (first, second) = (
        stage.pools.pause(Duration::ZERO).await,
        stage.pools.pause(Duration::ZERO).await,
    );
    drop(first);
    assert!(stage.pools.is_paused());
    stage.pools.resume();
    assert!(!stage.pools.is_paused());
    let third = stage.pools.pause(Duration::ZERO).await;
    drop(second);
    assert!(stage.pools.is_paused());
    drop(third);
    assert!(!stage.pools.is_paused());
}

#[tokio::test]
async fn a_pause_beyond_the_deadline_is_told_as_such() {
    let stage = Stage::set(|config| config).await;
    let _guard = stage.pools.pause(Duration::ZERO).await;
    let short = Duration::from_millis(20);
    for target in [Target::Primary, Target::Any] {
        let got = stage
            .pools
            .checkout(Purpose::New, target, short, |conn, _| conn);
        let error = got.await.unwrap_err();
        assert!(matches!(error, Error::Paused(_)), "{error}");
    }
}

#[tokio::test]
async fn a_pause_that_is_given_up_ends() {
    let stage = Stage::set(|config| config).await;
    let conn = stage.get(Purpose::New, Target::Primary).await.unwrap();
    {
        let mut pausing = pin!(stage.pools.pause(LONG));
        assert!(is_pending(pausing.as_mut()).await);
        assert!(stage.pools.is_paused());
    }
    assert!(!stage.pools.is_paused());
    drop(conn);
}

#[tokio::test]
async fn draining_serves_those_who_wait_and_refuses_those_who_come() {
    let stage = Stage::set(|config| config.writer_size(1).reader_size(1)).await;
    let conn = stage.get(Purpose::New, Target::Primary).await.unwrap();
    let mut waiting = pin!(stage.get(Purpose::New, Target::Primary));
    assert!(is_pending(waiting.as_mut()).await);
    // Another for which a connection is being opened, to another host.
    stage.script.no_more();
    let mut opening = pin!(stage.get(Purpose::New, Target::Standby));
    assert!(is_pending(opening.as_mut()).await);
    let running = stage.pools.busy();
    let mut draining = pin!(stage.pools.drain(LONG));
    assert!(is_pending(draining.as_mut()).await);
    let refused = stage.get(Purpose::New, Target::Primary).await;
    assert!(matches!(refused, Err(Error::Closed)));
    assert!(stage.pools.status().closed);
    drop(conn);
    drop(waiting.await.unwrap());
    assert!(is_pending(draining.as_mut()).await);
    // A transaction that runs may try again.
    drop(stage.get(Purpose::Retry, Target::Primary).await.unwrap());
    assert!(is_pending(draining.as_mut()).await);
    drop(running);
    assert!(is_pending(draining.as_mut()).await);
    stage.script.may_open.add_permits(1);
    drop(opening.await.unwrap());
    assert_eq!(draining.await.aborted, 0);
    let refused = stage.get(Purpose::Retry, Target::Primary).await;
    assert!(matches!(refused, Err(Error::Closed)));
}

#[tokio::test]
async fn draining_serves_those_whose_host_is_replaced_while_they_wait() {
    let mut stage = Stage::set(|config| config.writer_size(1).reader_size(1)).await;
    let conn = stage.get(Purpose::New, Target::Primary).await.unwrap();
    let mut waiting = pin!(stage.get(Purpose::New, Target::Primary));
    assert!(is_pending(waiting.as_mut()).await);
    let pools = stage.pools.clone();
    let mut draining = pin!(pools.drain(LONG));
    assert!(is_pending(draining.as_mut()).await);
    stage.promoted(1, 2);
    drop(waiting.await.unwrap());
    drop(conn);
    assert_eq!(draining.await.aborted, 0);
}
