//! A transaction of one prepared insert, beside the same written by hand on a bare pool.

#![allow(missing_docs, reason = "criterion's macros make public items")]
#![allow(clippy::unwrap_used, reason = "a bench fails by panicking")]

use criterion::{Criterion, criterion_group, criterion_main};
use leadpool_benches::Rivals;
use tokio::runtime::Runtime;

const INSERT: &str = "INSERT INTO t (n) VALUES (1)";

fn one_insert(criterion: &mut Criterion) {
    let runtime = Runtime::new().unwrap();
    let rivals = runtime.block_on(Rivals::start()).unwrap();
    let mut group = criterion.benchmark_group("transaction");
    group.bench_function("deadpool", |bencher| {
        bencher.to_async(&runtime).iter(async || {
            let mut client = rivals.bare.get().await.unwrap();
            let tx = client.transaction().await.unwrap();
            let insert = tx.prepare_cached(INSERT).await.unwrap();
            tx.execute(&insert, &[]).await.unwrap();
            tx.commit().await.unwrap();
        });
    });
    group.bench_function("leadpool", |bencher| {
        bencher.to_async(&runtime).iter(async || {
            rivals
                .leadpool
                .run_tx(async |tx| {
                    let insert = tx.prepare_cached(INSERT).await?;
                    tx.execute(&insert, &[]).await?;
                    Ok(())
                })
                .await
                .unwrap();
        });
    });
    group.finish();
}

criterion_group!(benches, one_insert);
criterion_main!(benches);
