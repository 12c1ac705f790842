//! r2d2 with r2d2_postgres: it blocks, so each task is a thread of its own.

use std::{
    thread,
    time::{Duration, Instant},
};

use r2d2_postgres::{
    PostgresConnectionManager,
    postgres::{Client, NoTls, Statement},
    r2d2::{ManageConnection, Pool, PooledConnection},
};
use tokio::task::spawn_blocking;

use super::{Contention, Doing, Error, Hold, INSERT, Rival, SELECT_ONE};

/// r2d2_postgres' own manager, and the statements of each connection.
pub(super) struct Manager(PostgresConnectionManager<NoTls>);

pub(super) struct Conn {
    client: Client,
    select_one: Option<Statement>,
    insert: Option<Statement>,
}

/// None once it is dropped: its connections may not be closed within the runtime.
pub(super) struct Blocking(Option<Pool<Manager>>);

impl Blocking {
    pub(super) fn open(url: &str, size: usize, test: bool) -> Result<Self, Error> {
        let manager = Manager(PostgresConnectionManager::new(url.parse()?, NoTls));
        let pool = Pool::builder().max_size(u32::try_from(size)?);
        // By default it opens all of them beforehand: the others open none.
        let pool = pool.min_idle(Some(0)).test_on_check_out(test);
        Ok(Self(Some(pool.build_unchecked(manager))))
    }

    /// Lets as many threads work, and waits for them.
    fn threads<'a, T: Send + 'static>(
        &'a self,
        count: usize,
        work: impl Fn(&Pool<Manager>) -> Result<T, Error> + Clone + Send + 'static,
    ) -> Doing<'a, Vec<T>> {
        let pool = self.0.clone();
        Box::pin(async move {
            let pool = pool.ok_or("the pool is closed")?;
            let threads = move || {
                let threads: Vec<_> = (0..count)
                    .map(|_| {
                        let (pool, work) = (pool.clone(), work.clone());
                        thread::spawn(move || work(&pool))
                    })
                    .collect();
                let ended = threads.into_iter().map(|thread| thread.join());
                ended
                    .map(|ended| ended.map_err(|_| "a thread panicked")?)
                    .collect()
            };
            spawn_blocking(threads).await?
        })
    }
}

impl Drop for Blocking {
    fn drop(&mut self) {
        if let Some(pool) = self.0.take() {
            let dropping = thread::spawn(move || drop(pool));
            // Its panic would be one in a drop.
            drop(dropping.join());
        }
    }
}

impl ManageConnection for Manager {
    type Connection = Conn;
    type Error = r2d2_postgres::postgres::Error;

    fn connect(&self) -> Result<Conn, Self::Error> {
        Ok(Conn {
            client: self.0.connect()?,
            select_one: None,
            insert: None,
        })
    }

    fn is_valid(&self, conn: &mut Conn) -> Result<(), Self::Error> {
        self.0.is_valid(&mut conn.client)
    }

    fn has_broken(&self, conn: &mut Conn) -> bool {
        self.0.has_broken(&mut conn.client)
    }
}

fn select_one(conn: &mut PooledConnection<Manager>) -> Result<(), Error> {
    let Conn {
        client, select_one, ..
    } = &mut **conn;
    let statement = match select_one {
        Some(statement) => statement,
        None => select_one.insert(client.prepare(SELECT_ONE)?),
    };
    client.query_one(statement, &[])?;
    Ok(())
}

fn transaction(pool: &Pool<Manager>, inserts: u32) -> Result<(), Error> {
    let mut conn = pool.get()?;
    let Conn { client, insert, .. } = &mut *conn;
    let mut tx = client.transaction()?;
    let statement = match insert {
        Some(statement) => statement,
        None => insert.insert(tx.prepare(INSERT)?),
    };
    for _ in 0..inserts {
        tx.execute(statement, &[&1_i64])?;
    }
    Ok(tx.commit()?)
}

impl Rival for Blocking {
    fn checkouts(&self, times: u32) -> Doing<'_> {
        let done = self.threads(1, move |pool| {
            for _ in 0..times {
                drop(pool.get()?);
            }
            Ok(())
        });
        Box::pin(async move { done.await.map(drop) })
    }

    fn select_ones(&self, tasks: usize, each: u32) -> Doing<'_> {
        let done = self.threads(tasks, move |pool| {
            for _ in 0..each {
                select_one(&mut pool.get()?)?;
            }
            Ok(())
        });
        Box::pin(async move { done.await.map(drop) })
    }

    fn transactions(&self, tasks: usize, each: u32, inserts: u32) -> Doing<'_> {
        let done = self.threads(tasks, move |pool| {
            for _ in 0..each {
                transaction(pool, inserts)?;
            }
            Ok(())
        });
        Box::pin(async move { done.await.map(drop) })
    }

    fn contend(&self, tasks: usize, hold: Hold, lasts: Duration) -> Doing<'_, Contention> {
        let begun = Instant::now();
        let waits = self.threads(tasks, move |pool| {
            let mut waits = Vec::new();
            while begun.elapsed() < lasts {
                let asked = Instant::now();
                let mut conn = pool.get()?;
                waits.push(asked.elapsed().as_nanos() as u64);
                match hold {
                    Hold::Statement => select_one(&mut conn)?,
                    Hold::Yield => thread::yield_now(),
                }
            }
            Ok(waits)
        });
        Box::pin(async move {
            Ok(Contention {
                waits: waits.await?,
                took: begun.elapsed(),
            })
        })
    }

    fn open(&self, connections: usize) -> Doing<'_> {
        let done = self.threads(1, move |pool| {
            let kept: Result<Vec<_>, _> = (0..connections).map(|_| pool.get()).collect();
            drop(kept?);
            Ok(())
        });
        Box::pin(async move { done.await.map(drop) })
    }

    fn burst(&self, tasks: usize) -> Doing<'_, Vec<Duration>> {
        let begun = Instant::now();
        self.threads(tasks, move |pool| {
            select_one(&mut pool.get()?)?;
            Ok(begun.elapsed())
        })
    }
}
