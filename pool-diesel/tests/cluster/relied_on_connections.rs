//! What applications rely on in a pooled connection of diesel-async's. Each test runs on its own
//! pool, and on all that stand in for it: see `main.rs`.

use std::time::{Duration, SystemTime};

use diesel::{
    QueryResult,
    connection::CacheSize,
    data_types::PgTimestamp,
    deserialize::{FromSql, FromSqlRow},
    dsl::sql,
    expression::AsExpression,
    pg::{Pg, PgValue},
    prelude::*,
    query_builder::QueryId,
    result::{DatabaseErrorKind, Error as DieselError},
    serialize::{IsNull, Output, ToSql},
    sql_types::{SqlType, Text},
};
use diesel_async::{
    AsyncConnection as _, AsyncPgConnection, RunQueryDsl, SimpleAsyncConnection as _,
    pooled_connection::deadpool::Object,
};
use futures_util::{StreamExt as _, TryStreamExt as _};
use leadpool_diesel::diesel_async;
use leadpool_testkit::Cluster as Servers;

use super::{Pool, open};
use crate::support::*;

async fn start() -> (Servers, Pool, Object<AsyncPgConnection>) {
    let one = Servers::builder().standbys(0).proxies(true);
    let servers = one.start().await.unwrap();
    prepare(&servers).await;
    let pool = open(&servers, 1, Duration::from_secs(20)).await;
    let conn = soon("a connection", pool.get()).await.unwrap();
    (servers, pool, conn)
}

async fn all(conn: &mut AsyncPgConnection) -> QueryResult<Vec<i64>> {
    t::table.select(t::n).order(t::n).load(conn).await
}

#[tokio::test]
async fn transactions_and_those_in_them() {
    let (servers, _pool, mut conn) = start().await;
    conn.transaction(async |conn| {
        insert(conn, 1).await?;
        let undone: QueryResult<()> = conn
            .transaction(async |conn| {
                insert(conn, 2).await?;
                Err(DieselError::RollbackTransaction)
            })
            .await;
        assert!(matches!(undone, Err(DieselError::RollbackTransaction)));
        // Also one that failed on the server leaves the outer one as it was.
        let failed = conn.transaction(async |conn| fail(conn).await).await;
        assert!(failed.is_err());
        conn.transaction(async |conn| insert(conn, 3).await).await
    })
    .await
    .unwrap();
    let undone: Result<(), String> = conn
        .transaction(async |conn| {
            insert(conn, 4).await.map_err(Mine::from)?;
            Err(Mine("no more plums".into()))
        })
        .await
        .map_err(|Mine(why)| why);
    assert_eq!(undone.unwrap_err(), "no more plums");
    assert_eq!(all(&mut conn).await.unwrap(), [1, 3]);
    no_open_transactions(&servers).await;
}

struct Mine(String);

impl From<DieselError> for Mine {
    fn from(error: DieselError) -> Self {
        Self(error.to_string())
    }
}

#[tokio::test]
async fn options_of_a_transaction() {
    let (_servers, _pool, mut conn) = start().await;
    let level = conn
        .build_transaction()
        .serializable()
        .deferrable()
        .run(async |conn| {
            QueryResult::Ok(text(conn, "current_setting('transaction_isolation')").await)
        })
        .await;
    assert_eq!(level.unwrap(), "serializable");
    let refused = conn
        .build_transaction()
        .read_only()
        .run(async |conn| insert(conn, 1).await)
        .await;
    let is_told = matches!(
        refused,
        Err(DieselError::DatabaseError(
            DatabaseErrorKind::ReadOnlyTransaction,
            _
        ))
    );
    assert!(is_told, "{refused:?}");
    assert!(insert(&mut conn, 1).await.is_ok());
}

#[tokio::test]
async fn a_transaction_of_a_test_stays_with_the_pool_and_is_never_committed() {
    let (servers, pool, mut conn) = start().await;
    conn.begin_test_transaction().await.unwrap();
    insert(&mut conn, 1).await.unwrap();
    let first = backend(&mut conn).await;
    drop(conn);
    let mut conn = soon("a connection", pool.get()).await.unwrap();
    assert_eq!(backend(&mut conn).await, first);
    conn.transaction(async |conn| insert(conn, 2).await)
        .await
        .unwrap();
    assert_eq!(all(&mut conn).await.unwrap(), [1, 2]);
    drop(conn);
    assert_eq!(rows(&servers).await, 0);
}

#[tokio::test]
async fn a_test_transaction_is_undone() {
    let (servers, _pool, mut conn) = start().await;
    let found = conn
        .test_transaction::<_, DieselError, _>(async |conn| {
            insert(conn, 1).await?;
            all(conn).await
        })
        .await;
    assert_eq!(found, [1]);
    assert_eq!(rows(&servers).await, 0);
}

#[tokio::test]
async fn statements_are_prepared_once_a_connection() {
    let (_servers, pool, mut conn) = start().await;
    let prepared = "(SELECT count(*) FROM pg_prepared_statements WHERE statement LIKE 'INSERT%')";
    for n in 0..3 {
        insert(&mut conn, n).await.unwrap();
    }
    assert_eq!(number(&mut conn, prepared).await, 1);
    // They are there for whoever has the connection next.
    drop(conn);
    let mut conn = soon("a connection", pool.get()).await.unwrap();
    insert(&mut conn, 3).await.unwrap();
    assert_eq!(number(&mut conn, prepared).await, 1);
}

#[tokio::test]
async fn statements_are_not_kept_if_the_cache_is_off() {
    let (_servers, _pool, mut conn) = start().await;
    conn.set_prepared_statement_cache_size(CacheSize::Disabled);
    for n in 0..3 {
        insert(&mut conn, n).await.unwrap();
    }
    let prepared = "(SELECT count(*) FROM pg_prepared_statements WHERE statement LIKE 'INSERT%')";
    assert_eq!(number(&mut conn, prepared).await, 0);
    conn.set_prepared_statement_cache_size(CacheSize::Unbounded);
    insert(&mut conn, 3).await.unwrap();
    insert(&mut conn, 4).await.unwrap();
    assert_eq!(number(&mut conn, prepared).await, 1);
}

#[tokio::test]
async fn several_statements_at_once_are_one_transaction() {
    let (_servers, _pool, mut conn) = start().await;
    conn.batch_execute("INSERT INTO t (n) VALUES (1); INSERT INTO t (n) VALUES (2)")
        .await
        .unwrap();
    let failed = conn
        .batch_execute("INSERT INTO t (n) VALUES (3); SELECT 1 FROM nowhere")
        .await;
    assert!(failed.is_err());
    assert_eq!(all(&mut conn).await.unwrap(), [1, 2]);
}

#[tokio::test]
async fn rows_are_read_as_they_come_or_dropped_half_way() {
    let (_servers, pool, mut conn) = start().await;
    let many: Vec<_> = (0..500).map(|n| t::n.eq(n)).collect();
    diesel::insert_into(t::table)
        .values(many)
        .execute(&mut conn)
        .await
        .unwrap();
    let ordered = || t::table.select(t::n).order(t::n);
    let stream = ordered().load_stream::<i64>(&mut conn).await.unwrap();
    let read: Vec<i64> = stream.try_collect().await.unwrap();
    assert_eq!(read.len(), 500);
    let stream = ordered().load_stream::<i64>(&mut conn).await.unwrap();
    let first: Vec<_> = stream.take(3).collect().await;
    assert_eq!(first.into_iter().map(Result::unwrap).sum::<i64>(), 3);
    assert_eq!(number(&mut conn, "7").await, 7);
    drop(ordered().load_stream::<i64>(&mut conn).await.unwrap());
    drop(conn);
    let mut conn = soon("a connection", pool.get()).await.unwrap();
    assert_eq!(number(&mut conn, "8").await, 8);
}

#[tokio::test]
async fn statements_on_a_shared_reference_go_out_together() {
    let (servers, _pool, conn) = start().await;
    let each = Duration::from_millis(20);
    let shared: &AsyncPgConnection = &conn;
    servers.proxy(0).unwrap().delay(each, each);
    let mut turns = 0;
    // The first time each is prepared.
    for _ in 0..2 {
        let before = servers.proxy(0).unwrap().turns();
        let (mut first, mut second, mut third) = (shared, shared, shared);
        let answers = tokio::try_join!(
            t::table.count().get_result::<i64>(&mut first),
            t::table.find(7).count().get_result::<i64>(&mut second),
            first_of(&mut third),
        );
        assert_eq!(answers.unwrap(), (0, 0, None));
        turns = servers.proxy(0).unwrap().turns() - before;
    }
    // A probe may be counted too.
    assert!(turns <= 2, "{turns}");
}

async fn first_of(conn: &mut &AsyncPgConnection) -> QueryResult<Option<i64>> {
    t::table.select(t::n).first(conn).await.optional()
}

#[tokio::test]
async fn a_cancelled_statement_disturbs_nobody() {
    let (_servers, pool, mut conn) = start().await;
    let short = Duration::from_millis(50);
    let slow = diesel::select(sql::<Text>("pg_sleep(0.3)::text || 'late'"));
    drop(tokio::time::timeout(short, slow.get_result::<String>(&mut conn)).await);
    assert_eq!(number(&mut conn, "7").await, 7);
    let slow = diesel::select(sql::<Text>("pg_sleep(0.3)::text || 'late'"));
    drop(tokio::time::timeout(short, slow.get_result::<String>(&mut conn)).await);
    drop(conn);
    // The next one waits for its end, and has its own answer.
    let mut conn = soon("a connection", pool.get()).await.unwrap();
    assert_eq!(soon("its own", number(&mut conn, "8")).await, 8);
}

#[tokio::test]
async fn errors_are_of_the_kinds_that_diesel_has() {
    let (_servers, _pool, mut conn) = start().await;
    conn.batch_execute("CREATE UNIQUE INDEX ON t (n); ALTER TABLE t ADD CHECK (n < 100)")
        .await
        .unwrap();
    insert(&mut conn, 1).await.unwrap();
    let twice = insert(&mut conn, 1).await.unwrap_err();
    let DieselError::DatabaseError(DatabaseErrorKind::UniqueViolation, about) = twice else {
        panic!("{twice:?}");
    };
    assert_eq!(about.table_name(), Some("t"));
    assert_eq!(about.constraint_name(), Some("t_n_idx"));
    let beyond = insert(&mut conn, 100).await.unwrap_err();
    let is_told = matches!(
        beyond,
        DieselError::DatabaseError(DatabaseErrorKind::CheckViolation, _)
    );
    assert!(is_told, "{beyond:?}");
    let none = t::table.find(99).first::<(i64, i64)>(&mut conn).await;
    assert_eq!(none.unwrap_err(), DieselError::NotFound);
    // It goes on being used.
    assert!(insert(&mut conn, 2).await.is_ok());
}

/// A type of the database's own: diesel asks for its number.
#[derive(Debug, QueryId, SqlType)]
#[diesel(postgres_type(name = "mood"))]
#[expect(unnameable_types, reason = "as public as the table")]
pub struct MoodType;

#[derive(Debug, Clone, Copy, PartialEq, Eq, AsExpression, FromSqlRow)]
#[diesel(sql_type = MoodType)]
enum Mood {
    Glad,
    Sad,
}

impl ToSql<MoodType, Pg> for Mood {
    fn to_sql<'b>(&'b self, out: &mut Output<'b, '_, Pg>) -> diesel::serialize::Result {
        let word: &[u8] = match self {
            Self::Glad => b"glad",
            Self::Sad => b"sad",
        };
        std::io::Write::write_all(out, word)?;
        Ok(IsNull::No)
    }
}

impl FromSql<MoodType, Pg> for Mood {
    fn from_sql(value: PgValue<'_>) -> diesel::deserialize::Result<Self> {
        match value.as_bytes() {
            b"glad" => Ok(Self::Glad),
            b"sad" => Ok(Self::Sad),
            _ => Err("neither".into()),
        }
    }
}

diesel::table! {
    use diesel::sql_types::*;
    use super::MoodType;

    typed (id) {
        id -> BigInt,
        at -> Timestamptz,
        local -> Timestamp,
        bytes -> Binary,
        list -> Array<Nullable<Text>>,
        ratio -> Double,
        flag -> Nullable<Bool>,
        mood -> MoodType,
        moods -> Array<MoodType>,
    }
}

type Row = (
    PgTimestamp,
    SystemTime,
    Vec<u8>,
    Vec<Option<String>>,
    f64,
    Option<bool>,
    Mood,
    Vec<Mood>,
);

#[tokio::test]
async fn values_of_all_kinds_go_there_and_back() {
    let (_servers, _pool, mut conn) = start().await;
    conn.batch_execute(
        "CREATE TYPE mood AS ENUM ('glad', 'sad'); \
         CREATE TABLE typed (id bigserial PRIMARY KEY, at timestamptz NOT NULL, \
             local timestamp NOT NULL, bytes bytea NOT NULL, list text[] NOT NULL, \
             ratio float8 NOT NULL, flag bool, mood mood NOT NULL, moods mood[] NOT NULL)",
    )
    .await
    .unwrap();
    // 2026-01-02 03:04:05 UTC, in microseconds since 2000.
    let at = 820_638_245_000_000;
    let local = SystemTime::UNIX_EPOCH + Duration::from_secs(1_767_323_045);
    let written: Row = (
        PgTimestamp(at),
        local,
        vec![0, 255, 7],
        vec![Some("plums".to_owned()), None],
        0.1,
        None,
        Mood::Sad,
        vec![Mood::Glad, Mood::Sad],
    );
    diesel::insert_into(typed::table)
        .values((
            typed::at.eq(written.0),
            typed::local.eq(written.1),
            typed::bytes.eq(&written.2),
            typed::list.eq(&written.3),
            typed::ratio.eq(written.4),
            typed::flag.eq(written.5),
            typed::mood.eq(written.6),
            typed::moods.eq(&written.7),
        ))
        .execute(&mut conn)
        .await
        .unwrap();
    let read: Row = typed::table
        .select((
            typed::at,
            typed::local,
            typed::bytes,
            typed::list,
            typed::ratio,
            typed::flag,
            typed::mood,
            typed::moods,
        ))
        .first(&mut conn)
        .await
        .unwrap();
    assert_eq!(read, written);
    // Whatever the server's time zone is.
    assert_eq!(text(&mut conn, "current_setting('TimeZone')").await, "UTC");
    let both = "(SELECT at::text || ' ' || local::text FROM typed)";
    assert_eq!(
        text(&mut conn, both).await,
        "2026-01-02 03:04:05+00 2026-01-02 03:04:05"
    );
}
