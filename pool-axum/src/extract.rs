//! What a handler asks for.

use std::{
    fmt,
    ops::{Deref, DerefMut},
};

use axum::{
    extract::{FromRef, FromRequestParts},
    http::request::Parts,
};
use leadpool::{
    Pool, Target,
    web::{Problem, Transaction, WebPool},
};

use crate::{Error, Seen, TimeLeft};

/// A connection to the writer, from the pool in the application's state.
///
/// While there is no writer it waits for one, for the checkout timeout, or for what the
/// [`Deadline`](crate::Deadline) of the route leaves. It is taken before the body is read, and held
/// until the handler drops it: a handler that reads large bodies, or waits for others, takes the
/// pool (`State<Pool>`) and a connection when it needs one.
///
/// What a handler does with it is not repeated. A transaction in `run_tx` is.
///
/// # Rejection
///
/// 503, 504 or 500: see [`Problem`].
///
/// # Examples
///
/// ```
/// use axum::Json;
/// use leadpool_axum::{Error, Writer};
///
/// async fn now(Writer(client): Writer) -> Result<String, Error> {
///     Ok(client.query_one("SELECT now()::text", &[]).await?.get(0))
/// }
/// # let _: axum::Router<leadpool_axum::leadpool::Pool> = axum::Router::new()
/// #     .route("/now", axum::routing::get(now));
/// ```
///
/// Over another driver, with its pool in the state:
///
/// ```
/// # #[cfg(feature = "sqlx")]
/// # mod sqlx_ {
/// use leadpool_axum::{Error, Writer, leadpool_sqlx};
///
/// async fn now(Writer(mut conn): Writer<leadpool_sqlx::Pool>) -> Result<String, Error> {
///     Ok(sqlx::query_scalar("SELECT now()::text").fetch_one(&mut *conn).await?)
/// }
/// # }
/// ```
#[allow(
    clippy::exhaustive_structs,
    reason = "taken apart in the arguments of handlers"
)]
pub struct Writer<P: WebPool = Pool>(pub P::Client);

/// A connection to a standby, or to the writer while no standby is usable: as [`Writer`].
///
/// A standby may not have yet what was written a moment ago. With the layer
/// [`ReadYourWrites`](crate::ReadYourWrites) it is one that has what this client has written.
///
/// # Rejection
///
/// As that of [`Writer`].
///
/// # Examples
///
/// ```
/// use axum::Json;
/// use leadpool_axum::{Error, Reader};
///
/// async fn list(Reader(client): Reader) -> Result<Json<Vec<String>>, Error> {
///     let rows = client.query("SELECT item FROM orders", &[]).await?;
///     Ok(Json(rows.iter().map(|row| row.get(0)).collect()))
/// }
/// # let _: axum::Router<leadpool_axum::leadpool::Pool> = axum::Router::new()
/// #     .route("/orders", axum::routing::get(list));
/// ```
#[allow(
    clippy::exhaustive_structs,
    reason = "taken apart in the arguments of handlers"
)]
pub struct Reader<P: WebPool = Pool>(pub P::Client);

/// A transaction on the writer that ends with the request: COMMIT for an answer of 2xx or 3xx,
/// ROLLBACK for one of 4xx or 5xx, and when the handler panics or the client goes away.
///
/// The routes need the layer [`Transactions`](crate::Transactions), which commits before the answer
/// leaves. A COMMIT that fails makes a [`Problem`] of the answer; one that nobody answered is found
/// out first, as in [`run_tx`](Pool::run_tx).
///
/// It is not repeated: the request was read, and can't be read again. A failover in its midst is a
/// 503 with `Retry-After` for the client. Where that should be a wait instead, take the pool and
/// use [`run_tx`](Pool::run_tx).
///
/// It has the time of [`TxSettings::deadline`](leadpool::config::TxSettings::deadline), the wait for a
/// writer included, or what the [`Deadline`](crate::Deadline) of the route leaves.
///
/// The handle must be gone when the handler returns. One that lives on, for instance in a body that
/// is streamed, makes the request fail.
///
/// # Rejection
///
/// As that of [`Writer`], and 500 where the layer is missing, or where the handler asks for a second
/// one.
///
/// # Examples
///
/// ```
/// use axum::{Router, http::StatusCode, routing::post};
/// use leadpool_axum::{Error, Transactions, Tx, leadpool::Pool};
///
/// async fn add(tx: Tx, item: String) -> Result<StatusCode, Error> {
///     tx.execute("INSERT INTO orders (item) VALUES ($1)", &[&item]).await?;
///     tx.execute("UPDATE stock SET n = n - 1 WHERE item = $1", &[&item]).await?;
///     Ok(StatusCode::CREATED)
/// }
///
/// let app: Router<Pool> = Router::new()
///     .route("/orders", post(add))
///     .layer(Transactions::new());
/// ```
///
/// Over sqlx, `&mut *tx` is an executor:
///
/// ```
/// # #[cfg(feature = "sqlx")]
/// # mod sqlx_ {
/// # use axum::http::StatusCode;
/// use leadpool_axum::{Error, Tx, leadpool_sqlx};
///
/// async fn add(mut tx: Tx<leadpool_sqlx::Pool>, item: String) -> Result<StatusCode, Error> {
///     sqlx::query("INSERT INTO orders (item) VALUES ($1)").bind(item).execute(&mut *tx).await?;
///     Ok(StatusCode::CREATED)
/// }
/// # }
/// ```
///
/// Over diesel-async, `&mut *tx` is a connection; over diesel in threads, `tx.interact(|conn| ..)`
/// runs what blocks.
#[allow(
    clippy::exhaustive_structs,
    reason = "taken apart in the arguments of handlers"
)]
pub struct Tx<P: WebPool = Pool>(pub P::Tx);

impl<S, P> FromRequestParts<S> for Writer<P>
where
    P: WebPool + FromRef<S>,
    S: Send + Sync,
{
    type Rejection = Error;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Error> {
        let pool = P::from_ref(state);
        let limit = TimeLeft::of(parts).0.begin()?;
        Seen::of(parts).has_written();
        Ok(Self(pool.checkout(Target::Primary, limit).await?))
    }
}

impl<S, P> FromRequestParts<S> for Reader<P>
where
    P: WebPool + FromRef<S>,
    S: Send + Sync,
{
    type Rejection = Error;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Error> {
        let pool = P::from_ref(state);
        let limit = TimeLeft::of(parts).0.begin()?;
        Ok(Self(Seen::of(parts).checkout(&pool, limit).await?))
    }
}

impl<S, P> FromRequestParts<S> for Tx<P>
where
    P: WebPool + FromRef<S>,
    S: Send + Sync,
{
    type Rejection = Error;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Error> {
        let pool = P::from_ref(state);
        let left = TimeLeft::of(parts).0;
        Seen::of(parts).has_written();
        let Some(transaction) = parts.extensions.get::<Transaction>() else {
            return Err(Problem::misassembled(
                "This route asks for a transaction, and the layer that ends it is missing: add \
                 .layer(leadpool_axum::Transactions::new()) to the router.",
            )
            .into());
        };
        Ok(Self(transaction.begin(&pool, left).await?))
    }
}

impl<P: WebPool> Deref for Writer<P> {
    type Target = P::Client;

    fn deref(&self) -> &P::Client {
        &self.0
    }
}

impl<P: WebPool> DerefMut for Writer<P> {
    fn deref_mut(&mut self) -> &mut P::Client {
        &mut self.0
    }
}

impl<P: WebPool> Deref for Reader<P> {
    type Target = P::Client;

    fn deref(&self) -> &P::Client {
        &self.0
    }
}

impl<P: WebPool> DerefMut for Reader<P> {
    fn deref_mut(&mut self) -> &mut P::Client {
        &mut self.0
    }
}

impl<P: WebPool> Deref for Tx<P> {
    type Target = P::Tx;

    fn deref(&self) -> &P::Tx {
        &self.0
    }
}

impl<P: WebPool> DerefMut for Tx<P> {
    fn deref_mut(&mut self) -> &mut P::Tx {
        &mut self.0
    }
}

impl<P: WebPool> fmt::Debug for Writer<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Writer").finish_non_exhaustive()
    }
}

impl<P: WebPool> fmt::Debug for Reader<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reader").finish_non_exhaustive()
    }
}

impl<P: WebPool> fmt::Debug for Tx<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tx").finish_non_exhaustive()
    }
}
