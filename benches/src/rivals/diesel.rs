//! diesel-async on deadpool, and leadpool-diesel.
//!
//! diesel keeps prepared what it has written itself, and a literal is no part of that: so it asks
//! `SELECT $1`.

use diesel::{ExpressionMethods as _, IntoSql as _, QueryResult, sql_types::Integer};
use diesel_async::{
    AsyncConnection as _, AsyncPgConnection, RunQueryDsl as _,
    pooled_connection::{
        AsyncDieselConnectionManager, ManagerConfig, RecyclingMethod,
        deadpool::{Object, Pool},
    },
};

use super::{Error, peer::Peer};

diesel::table! {
    t (id) {
        id -> BigInt,
        n -> BigInt,
    }
}

pub(super) fn open(
    url: &str,
    size: usize,
    method: RecyclingMethod<AsyncPgConnection>,
) -> Result<Pool<AsyncPgConnection>, Error> {
    let mut config = ManagerConfig::default();
    config.recycling_method = method;
    let manager = AsyncDieselConnectionManager::new_with_config(url, config);
    Ok(Pool::builder(manager).max_size(size).build()?)
}

pub(super) async fn open_leadpool(url: &str, size: usize) -> Result<leadpool_diesel::Pool, Error> {
    let pool = leadpool_diesel::Pool::builder(url).max_size(size);
    Ok(pool.build().await?)
}

async fn select_one(conn: &mut AsyncPgConnection) -> Result<(), Error> {
    let one = diesel::select(1_i32.into_sql::<Integer>());
    one.get_result::<i32>(conn).await?;
    Ok(())
}

async fn insert(conn: &mut AsyncPgConnection, inserts: u32) -> QueryResult<()> {
    for _ in 0..inserts {
        let insert = diesel::insert_into(t::table).values(t::n.eq(1));
        insert.execute(conn).await?;
    }
    Ok(())
}

impl Peer for Pool<AsyncPgConnection> {
    type Conn = Object<AsyncPgConnection>;

    async fn get(&self) -> Result<Self::Conn, Error> {
        Ok(Self::get(self).await?)
    }

    async fn select_one(conn: &mut Self::Conn) -> Result<(), Error> {
        select_one(conn).await
    }

    async fn transaction(&self, inserts: u32) -> Result<(), Error> {
        let mut conn = Self::get(self).await?;
        conn.transaction(async |conn| insert(conn, inserts).await)
            .await?;
        Ok(())
    }
}

impl Peer for leadpool_diesel::Pool {
    type Conn = Object<AsyncPgConnection>;

    async fn get(&self) -> Result<Self::Conn, Error> {
        Ok(Self::get(self).await?)
    }

    async fn select_one(conn: &mut Self::Conn) -> Result<(), Error> {
        select_one(conn).await
    }

    async fn transaction(&self, inserts: u32) -> Result<(), Error> {
        self.run_tx(|mut tx| async move { insert(&mut tx, inserts).await })
            .await?;
        Ok(())
    }
}
