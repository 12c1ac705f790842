//! What becomes of the monitor when something in it panics.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use tokio::time::{sleep, timeout};

use super::{Cluster, Follower};
use crate::{
    config::Config,
    failover::Event,
    topology::{HostAddr, Topology},
};

/// Panics at the first change.
#[derive(Default)]
struct Clumsy(AtomicU32);

impl Follower for Clumsy {
    fn follow(&self, _: &Arc<Topology>) {
        assert_ne!(self.0.fetch_add(1, Ordering::SeqCst), 1, "on purpose");
    }

    fn is_in_use(&self, _: &HostAddr) -> bool {
        false
    }

    fn pauses_changed(&self) {}

    fn in_use(&self) -> usize {
        0
    }
}

#[tokio::test]
async fn it_tells_of_a_panic_and_goes_on() {
    // Nobody listens there: a change comes with each refusal.
    let url = "postgres://127.0.0.1:1,127.0.0.2:1/x";
    let config = Config::builder(url).lazy(true).build().unwrap();
    let cluster = Cluster::connect(config).await.unwrap();
    let mut events = cluster.events();
    let clumsy = Arc::new(Clumsy::default());
    cluster.attach(&clumsy);
    let told = async {
        while !matches!(
            events.next().await.unwrap(),
            Event::TaskRestarted { task } if task == "monitor"
        ) {}
        while clumsy.0.load(Ordering::SeqCst) < 3 {
            sleep(Duration::from_millis(1)).await;
        }
    };
    timeout(Duration::from_secs(20), told).await.unwrap();
}
