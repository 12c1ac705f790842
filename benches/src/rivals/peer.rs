//! What a pool must be able to do to be measured.

use std::time::{Duration, Instant};

use tokio::task::{JoinSet, yield_now};

use super::{Contention, Doing, Error, Hold, Rival};

/// A pool of connections that are asked without blocking.
pub(super) trait Peer: Clone + Send + Sync + 'static {
    type Conn: Send + 'static;

    fn get(&self) -> impl Future<Output = Result<Self::Conn, Error>> + Send;
    fn select_one(conn: &mut Self::Conn) -> impl Future<Output = Result<(), Error>> + Send;
    /// Checkout and return included.
    fn transaction(&self, inserts: u32) -> impl Future<Output = Result<(), Error>> + Send;
}

/// Runs the same loops over each of them.
pub(super) struct Pooled<P>(pub(super) P);

/// The first error of a task counts.
pub(super) async fn all<T: 'static>(mut tasks: JoinSet<Result<T, Error>>) -> Result<Vec<T>, Error> {
    let mut results = Vec::with_capacity(tasks.len());
    while let Some(ended) = tasks.join_next().await {
        results.push(ended??);
    }
    Ok(results)
}

impl<P: Peer> Rival for Pooled<P> {
    fn checkouts(&self, times: u32) -> Doing<'_> {
        Box::pin(async move {
            for _ in 0..times {
                drop(self.0.get().await?);
            }
            Ok(())
        })
    }

    fn select_ones(&self, tasks: usize, each: u32) -> Doing<'_> {
        Box::pin(async move {
            let mut set = JoinSet::new();
            for _ in 0..tasks {
                let pool = self.0.clone();
                set.spawn(async move {
                    for _ in 0..each {
                        let mut conn = pool.get().await?;
                        P::select_one(&mut conn).await?;
                    }
                    Ok(())
                });
            }
            all(set).await.map(drop)
        })
    }

    fn transactions(&self, tasks: usize, each: u32, inserts: u32) -> Doing<'_> {
        Box::pin(async move {
            let mut set = JoinSet::new();
            for _ in 0..tasks {
                let pool = self.0.clone();
                set.spawn(async move {
                    for _ in 0..each {
                        pool.transaction(inserts).await?;
                    }
                    Ok(())
                });
            }
            all(set).await.map(drop)
        })
    }

    fn contend(&self, tasks: usize, hold: Hold, lasts: Duration) -> Doing<'_, Contention> {
        Box::pin(async move {
            let mut set = JoinSet::new();
            let begun = Instant::now();
            for _ in 0..tasks {
                let pool = self.0.clone();
                set.spawn(async move {
                    let mut waits = Vec::new();
                    while begun.elapsed() < lasts {
                        let asked = Instant::now();
                        let mut conn = pool.get().await?;
                        waits.push(asked.elapsed().as_nanos() as u64);
                        match hold {
                            Hold::Statement => P::select_one(&mut conn).await?,
                            Hold::Yield => yield_now().await,
                        }
                    }
                    Ok(waits)
                });
            }
            let waits = all(set).await?;
            Ok(Contention {
                waits,
                took: begun.elapsed(),
            })
        })
    }

    fn open(&self, connections: usize) -> Doing<'_> {
        Box::pin(async move {
            let mut kept = Vec::with_capacity(connections);
            for _ in 0..connections {
                kept.push(self.0.get().await?);
            }
            Ok(())
        })
    }

    fn burst(&self, tasks: usize) -> Doing<'_, Vec<Duration>> {
        Box::pin(async move {
            let mut set = JoinSet::new();
            let begun = Instant::now();
            for _ in 0..tasks {
                let pool = self.0.clone();
                set.spawn(async move {
                    let mut conn = pool.get().await?;
                    P::select_one(&mut conn).await?;
                    Ok(begun.elapsed())
                });
            }
            all(set).await
        })
    }
}
