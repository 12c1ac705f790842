//! Minimum sizes, lives, warm-up, and how many may wait.

use std::{pin::pin, sync::atomic::Ordering, time::Duration};

use super::{
    super::{Driver as _, Purpose},
    counted::{Counted, Stage, until},
    is_pending,
};
use crate::{
    error::Error,
    failover::{Answer, Event},
    topology::Target,
};

const HOUR: Duration = Duration::from_secs(3600);

#[tokio::test]
async fn the_minimum_is_opened_and_kept_and_a_promoted_standby_brings_its_own() {
    let mut stage = Stage::set(|config| config.writer_min_size(3).reader_min_size(2)).await;
    stage.pools.keep();
    until("both minima", || {
        stage.counts(0).idle == 3 && stage.counts(1).idle == 2
    })
    .await;
    // Lost ones are replaced, also while others are in use.
    let conn = stage.get(Purpose::New, Target::Primary).await.unwrap();
    Counted::discard(Counted::try_get(&stage.writer().pool).unwrap());
    until("the third again", || stage.counts(0).size == 3).await;
    drop(conn);
    let before = stage.script.opened.load(Ordering::SeqCst);
    stage.promoted(1, 2);
    until("the new writer's", || stage.counts(1).idle == 3).await;
    assert_eq!(stage.script.opened.load(Ordering::SeqCst), before + 1);
}

#[tokio::test]
async fn openings_leave_room_for_checkouts() {
    let stage = Stage::set(|config| config.writer_min_size(12).max_concurrent_connects(6)).await;
    stage.script.no_more();
    stage.pools.keep();
    until("as many as may", || {
        stage.script.opening.load(Ordering::SeqCst) == 3
    })
    .await;
    stage.script.may_open.add_permits(100);
    until("the minimum", || stage.counts(0).idle == 12).await;
    assert_eq!(stage.script.most_opening.load(Ordering::SeqCst), 3);
}

#[tokio::test(start_paused = true)]
async fn a_host_that_gives_no_session_is_left_in_peace() {
    let stage = Stage::set(|config| config.writer_min_size(1)).await;
    stage.script.refuses.store(true, Ordering::SeqCst);
    stage.pools.keep();
    tokio::time::sleep(Duration::from_secs(10)).await;
    // After a quarter of a second, then twice as long each time, shortened by half at most.
    let attempts = stage.script.attempts.load(Ordering::SeqCst);
    assert!((6..=7).contains(&attempts), "{attempts}");
    stage.script.refuses.store(false, Ordering::SeqCst);
    tokio::time::sleep(Duration::from_secs(31)).await;
    assert_eq!(stage.counts(0).idle, 1);
}

#[tokio::test]
async fn nothing_is_opened_on_hosts_that_are_not_usable() {
    let stage =
        Stage::set_without_writer(|config| config.writer_min_size(1).reader_min_size(1)).await;
    stage.pools.keep();
    // The topology changes nothing: the keeper has looked at least once by then.
    for _ in 0..100 {
        tokio::task::yield_now().await;
    }
    assert_eq!(stage.script.attempts.load(Ordering::SeqCst), 0);
}

#[tokio::test]
async fn what_idles_is_closed_down_to_the_minimum() {
    let stage = Stage::set(|config| {
        config
            .writer_min_size(2)
            .idle_timeout(Some(Duration::from_millis(100)))
    })
    .await;
    let mut held = Vec::new();
    for _ in 0..5 {
        held.push(stage.get(Purpose::New, Target::Primary).await.unwrap());
    }
    drop(held.split_off(1));
    stage.pools.keep();
    until("the minimum", || stage.counts(0).size == 2).await;
    assert_eq!(stage.script.opened.load(Ordering::SeqCst), 5, "none again");
    drop(held);
    assert_eq!(stage.counts(0).size, 2);
}

#[tokio::test]
async fn what_is_too_old_is_replaced_before_it_is_closed() {
    let stage = Stage::set(|config| {
        config
            .writer_min_size(2)
            .idle_timeout(None)
            .max_lifetime(Some(HOUR))
    })
    .await;
    let two = [
        stage.get(Purpose::New, Target::Primary).await.unwrap(),
        stage.get(Purpose::New, Target::Primary).await.unwrap(),
    ];
    drop(two);
    stage.writer().pool.age(HOUR);
    stage.script.no_more();
    stage.pools.keep();
    until("the replacements", || {
        stage.script.opening.load(Ordering::SeqCst) == 2
    })
    .await;
    assert_eq!(stage.counts(0).size, 2, "the old ones are still there");
    stage.script.may_open.add_permits(2);
    until("the end of the old ones", || {
        stage.script.opened.load(Ordering::SeqCst) == 4 && stage.counts(0).size == 2
    })
    .await;
    for _ in 0..2 {
        let conn = stage.get(Purpose::New, Target::Primary).await.unwrap();
        assert!(conn.stamp.opened.elapsed() < HOUR / 2);
    }
}

#[tokio::test]
async fn where_there_is_no_room_the_old_ones_are_replaced_one_by_one() {
    let stage = Stage::set(|config| {
        config
            .writer_size(2)
            .reader_size(2)
            .writer_min_size(2)
            .max_lifetime(Some(HOUR))
    })
    .await;
    let two = [
        stage.get(Purpose::New, Target::Primary).await.unwrap(),
        stage.get(Purpose::New, Target::Primary).await.unwrap(),
    ];
    drop(two);
    stage.writer().pool.age(HOUR);
    stage.pools.keep();
    until("two new ones", || {
        stage.script.opened.load(Ordering::SeqCst) == 4 && stage.counts(0).idle == 2
    })
    .await;
}

#[tokio::test]
async fn nothing_too_old_is_handed_out() {
    // Nobody keeps these pools: it is the checkout that finds out.
    let stage = Stage::set(|config| config.max_lifetime(Some(HOUR))).await;
    drop(stage.get(Purpose::New, Target::Primary).await.unwrap());
    stage.writer().pool.age(HOUR);
    let conn = stage.get(Purpose::New, Target::Primary).await.unwrap();
    assert!(conn.stamp.opened.elapsed() < HOUR / 2);
    assert_eq!(stage.counts(0).size, 1);
}

#[tokio::test]
async fn a_keeper_that_panics_is_told_of_and_goes_on() {
    let stage = Stage::set(|config| config.writer_min_size(1)).await;
    let mut events = stage.cluster.events();
    stage.script.panics.store(true, Ordering::SeqCst);
    stage.pools.keep();
    until("the minimum", || stage.counts(0).idle == 1).await;
    loop {
        match events.next().await.unwrap() {
            Event::TaskRestarted { task } if task == "keeper" => break,
            _ => {}
        }
    }
}

#[tokio::test]
async fn the_keeper_ends_with_the_pool() {
    let stage = Stage::set(|config| config.writer_min_size(1)).await;
    stage.pools.keep();
    until("the minimum", || stage.counts(0).idle == 1).await;
    let keeper = stage.pools.keeper.get().unwrap().clone();
    assert!(!keeper.is_finished());
    drop(stage);
    until("its end", || keeper.is_finished()).await;
}

#[tokio::test]
async fn a_new_writer_is_warmed_up_and_those_who_wait_are_held_back_for_it_if_asked() {
    let mut stage = Stage::set(|config| {
        config
            .warm_up(3)
            .warm_up_wait(Duration::from_secs(1000))
            .max_concurrent_connects(8)
    })
    .await;
    stage.pools.keep();
    until("the first writer's", || stage.counts(0).idle == 3).await;
    assert_eq!(stage.counts(1).size, 0, "the standby's none");
    stage.script.no_more();
    // Primary no more, and nobody else is yet.
    stage.answers(0, Answer::standby());
    let mut first = pin!(stage.get(Purpose::New, Target::Primary));
    assert!(is_pending(first.as_mut()).await);
    stage.promoted(1, 2);
    until("the openings", || {
        stage.script.opening.load(Ordering::SeqCst) == 3
    })
    .await;
    stage.script.may_open.add_permits(2);
    until("two of them", || stage.counts(1).size == 2).await;
    assert!(is_pending(first.as_mut()).await);
    stage.script.may_open.add_permits(1);
    first.await.unwrap();
    assert_eq!(stage.counts(1).size, 3, "it took one of those");
}

#[tokio::test]
async fn one_more_than_may_wait_is_refused_at_once() {
    let stage =
        Stage::set(|config| config.writer_size(2).reader_size(2).max_waiting(Some(2))).await;
    let get = || stage.get(Purpose::New, Target::Primary);
    stage.script.no_more();
    // Two for whom a connection is opened, and two who wait.
    let (mut a, mut b, mut c, mut d) = (pin!(get()), pin!(get()), pin!(get()), pin!(get()));
    assert!(is_pending(a.as_mut()).await && is_pending(b.as_mut()).await);
    assert_eq!(stage.pools.status().waiting, 0);
    assert!(is_pending(c.as_mut()).await && is_pending(d.as_mut()).await);
    assert_eq!(stage.pools.status().waiting, 2);
    let Err(Error::Overloaded(overloaded)) = get().await else {
        panic!("it waits");
    };
    assert_eq!((overloaded.waiting, overloaded.max_waiting), (2, 2));
    // Who has begun already is not refused.
    let mut again = pin!(stage.get(Purpose::Retry, Target::Primary));
    assert!(is_pending(again.as_mut()).await);
    stage.script.may_open.add_permits(2);
    let (a, b) = (a.await.unwrap(), b.await.unwrap());
    drop((a, b));
    drop((c.await.unwrap(), d.await.unwrap()));
    drop(again.await.unwrap());
    assert_eq!(stage.pools.status().waiting, 0);
    // With one idle nobody waits, whatever the limit.
    drop(get().await.unwrap());
}

#[tokio::test]
async fn those_who_wait_for_a_writer_count_too() {
    let stage = Stage::set_without_writer(|config| config.max_waiting(Some(1))).await;
    let get = || stage.get(Purpose::New, Target::Primary);
    let mut first = pin!(get());
    assert!(is_pending(first.as_mut()).await);
    let refused = get().await.unwrap_err();
    assert!(matches!(refused, Error::Overloaded(_)), "{refused}");
    assert!(refused.is_transient());
}
