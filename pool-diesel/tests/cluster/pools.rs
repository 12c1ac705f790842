//! Pools that applications of diesel-async may have: what they rely on in its own, the others do
//! too.

use std::{ops::DerefMut, time::Duration};

use diesel_async::{
    AsyncPgConnection,
    pooled_connection::{
        AsyncDieselConnectionManager, bb8, deadpool::Object, deadpool::Pool as Deadpool, mobc,
    },
};
use leadpool_diesel::diesel_async;
use leadpool_testkit::Cluster as Servers;

/// How full a pool is.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Gauges {
    pub(crate) max_size: usize,
    pub(crate) size: usize,
    pub(crate) idle: usize,
    pub(crate) waiting: usize,
}

fn deadpool(
    manager: AsyncDieselConnectionManager<AsyncPgConnection>,
    size: usize,
    wait: Duration,
) -> Deadpool<AsyncPgConnection> {
    let builder = Deadpool::builder(manager).max_size(size);
    let builder = builder.runtime(deadpool::Runtime::Tokio1);
    builder.wait_timeout(Some(wait)).build().unwrap()
}

/// diesel-async's own.
pub(crate) mod diesels {
    use super::*;

    pub(crate) type Pool = Deadpool<AsyncPgConnection>;

    pub(crate) async fn open(servers: &Servers, size: usize, wait: Duration) -> Pool {
        deadpool(
            AsyncDieselConnectionManager::new(servers.proxied_url()),
            size,
            wait,
        )
    }

    pub(crate) fn gauges(pool: &Pool) -> Gauges {
        let status = pool.status();
        Gauges {
            max_size: status.max_size,
            size: status.size,
            idle: status.available,
            waiting: status.waiting,
        }
    }
}

/// leadpool's.
pub(crate) mod leadpools {
    pub(crate) use leadpool_diesel::Pool;

    use super::*;

    pub(crate) async fn open(servers: &Servers, size: usize, wait: Duration) -> Pool {
        let builder = Pool::builder(&servers.proxied_url()).max_size(size);
        builder.wait_timeout(wait).build().await.unwrap()
    }

    /// Of the only host.
    pub(crate) fn gauges(pool: &Pool) -> Gauges {
        let counts = &pool.status().sub_pools[0].counts;
        Gauges {
            max_size: counts.max_size,
            size: counts.size,
            idle: counts.idle,
            waiting: counts.waiting,
        }
    }
}

/// A real one of diesel-async's that follows the writer.
pub(crate) mod followers {
    pub(crate) use super::diesels::{Pool, gauges};
    use super::*;

    pub(crate) async fn open(servers: &Servers, size: usize, wait: Duration) -> Pool {
        leadpools::open(servers, size, wait).await.deadpool_pool()
    }
}

/// Anybody's, of diesel-async's manager whose connections follow the writer.
pub(crate) mod managed {
    pub(crate) use super::diesels::{Pool, gauges};
    use super::*;

    pub(crate) async fn open(servers: &Servers, size: usize, wait: Duration) -> Pool {
        deadpool(
            leadpools::open(servers, size, wait).await.manager(),
            size,
            wait,
        )
    }
}

/// Whatever connections can be taken from.
pub(crate) trait Gets: Clone {
    type Taken<'a>: DerefMut<Target = AsyncPgConnection> + Send
    where
        Self: 'a;

    fn take(&self) -> impl Future<Output = Self::Taken<'_>> + Send;
}

impl Gets for leadpool_diesel::Pool {
    type Taken<'a> = Object<AsyncPgConnection>;

    async fn take(&self) -> Self::Taken<'_> {
        self.get().await.unwrap()
    }
}

impl Gets for Deadpool<AsyncPgConnection> {
    type Taken<'a> = Object<AsyncPgConnection>;

    async fn take(&self) -> Self::Taken<'_> {
        self.get().await.unwrap()
    }
}

impl Gets for bb8::Pool<AsyncPgConnection> {
    type Taken<'a> = bb8::PooledConnection<'a, AsyncPgConnection>;

    async fn take(&self) -> Self::Taken<'_> {
        self.get().await.unwrap()
    }
}

impl Gets for mobc::Pool<AsyncPgConnection> {
    type Taken<'a> = mobc::PooledConnection<AsyncPgConnection>;

    async fn take(&self) -> Self::Taken<'_> {
        match self.get().await {
            Ok(conn) => conn,
            Err(error) => panic!("{error}"),
        }
    }
}

/// A pool of bb8's that follows the writer.
pub(crate) async fn bb8(pool: &leadpool_diesel::Pool, size: u32) -> bb8::Pool<AsyncPgConnection> {
    let builder = bb8::Pool::builder().max_size(size);
    builder.build(pool.manager()).await.unwrap()
}

/// A pool of mobc's that does.
pub(crate) fn mobc(pool: &leadpool_diesel::Pool, size: u64) -> mobc::Pool<AsyncPgConnection> {
    mobc::Pool::builder().max_open(size).build(pool.manager())
}
