//! How often a checkout allocates.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use allocation_counter::measure;
use leadpool_benches::Rivals;
use tokio::runtime::Builder;

const TIMES: u64 = 1_000;

#[test]
fn a_checkout_allocates_no_more_than_the_bare_pools() {
    let runtime = Builder::new_current_thread().enable_all().build().unwrap();
    let rivals = runtime.block_on(Rivals::start(1)).unwrap();
    // The monitor may work between two checkouts, so the least of several measurements counts.
    let least = |checkouts: &dyn Fn()| {
        (0..5)
            .map(|_| measure(checkouts).count_total)
            .min()
            .unwrap()
    };
    let bare = least(&|| {
        runtime.block_on(async {
            for _ in 0..TIMES {
                drop(rivals.bare.get().await.unwrap());
            }
        });
    });
    let leadpool = least(&|| {
        runtime.block_on(async {
            for _ in 0..TIMES {
                drop(rivals.leadpool.get().await.unwrap());
            }
        });
    });
    let recorded = least(&|| {
        runtime.block_on(async {
            for _ in 0..TIMES {
                drop(rivals.recorded.get().await.unwrap());
            }
        });
    });
    println!(
        "allocations of {TIMES} checkouts: deadpool {bare}, leadpool {leadpool}, with a recorder {recorded}"
    );
    for own in [leadpool, recorded] {
        assert!(
            own / TIMES <= bare / TIMES,
            "deadpool {bare}, leadpool {own}"
        );
    }
}
