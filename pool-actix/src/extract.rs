//! What a handler asks for.

use std::{
    fmt,
    ops::{Deref, DerefMut},
};

use actix_web::{FromRequest, HttpMessage as _, HttpRequest, dev::Payload, web::Data};
use futures_util::future::LocalBoxFuture;
use leadpool::{
    Pool, Target,
    web::{Problem, Transaction, WebPool},
};

use crate::{Error, Seen, TimeLeft};

/// A connection to the writer, from the pool in the application's data (`web::Data<Pool>`).
///
/// While there is no writer it waits for one, for the checkout timeout, or for what the
/// [`Deadline`](crate::Deadline) of the route leaves. It is taken before the body is read, and held
/// until the handler drops it: a handler that reads large bodies, or waits for others, takes the
/// pool (`web::Data<Pool>`) and a connection when it needs one.
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
/// use leadpool_actix::{Error, Writer};
///
/// async fn now(Writer(client): Writer) -> Result<String, Error> {
///     Ok(client.query_one("SELECT now()::text", &[]).await?.get(0))
/// }
/// # let _ = actix_web::web::get().to(now);
/// ```
///
/// Over another driver, with its pool in the data:
///
/// ```
/// # #[cfg(feature = "sqlx")]
/// # mod sqlx_ {
/// use leadpool_actix::{Error, Writer, leadpool_sqlx};
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
/// A standby may not have yet what was written a moment ago. With the middleware
/// [`ReadYourWrites`](crate::ReadYourWrites) it is one that has what this client has written.
///
/// # Rejection
///
/// As that of [`Writer`].
///
/// # Examples
///
/// ```
/// use actix_web::web::Json;
/// use leadpool_actix::{Error, Reader};
///
/// async fn list(Reader(client): Reader) -> Result<Json<Vec<String>>, Error> {
///     let rows = client.query("SELECT item FROM orders", &[]).await?;
///     Ok(Json(rows.iter().map(|row| row.get(0)).collect()))
/// }
/// # let _ = actix_web::web::get().to(list);
/// ```
#[allow(
    clippy::exhaustive_structs,
    reason = "taken apart in the arguments of handlers"
)]
pub struct Reader<P: WebPool = Pool>(pub P::Client);

/// A transaction on the writer that ends with the request: COMMIT for an answer of 2xx or 3xx,
/// ROLLBACK for one of 4xx or 5xx, and when the handler panics or the client goes away.
///
/// The routes need the middleware [`Transactions`](crate::Transactions), which commits before the answer
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
/// As that of [`Writer`], and 500 where the middleware is missing, or where the handler asks for a second
/// one.
///
/// # Examples
///
/// ```
/// use actix_web::{App, HttpResponse, web};
/// use leadpool_actix::{Error, Transactions, Tx};
///
/// async fn add(tx: Tx, item: String) -> Result<HttpResponse, Error> {
///     tx.execute("INSERT INTO orders (item) VALUES ($1)", &[&item]).await?;
///     tx.execute("UPDATE stock SET n = n - 1 WHERE item = $1", &[&item]).await?;
///     Ok(HttpResponse::Created().finish())
/// }
///
/// let app = App::new().wrap(Transactions::new()).route("/orders", web::post().to(add));
/// ```
///
/// Over sqlx, `&mut *tx` is an executor:
///
/// ```
/// # #[cfg(feature = "sqlx")]
/// # mod sqlx_ {
/// # use actix_web::HttpResponse;
/// use leadpool_actix::{Error, Tx, leadpool_sqlx};
///
/// async fn add(mut tx: Tx<leadpool_sqlx::Pool>, item: String) -> Result<HttpResponse, Error> {
///     sqlx::query("INSERT INTO orders (item) VALUES ($1)").bind(item).execute(&mut *tx).await?;
///     Ok(HttpResponse::Created().finish())
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

impl<P: WebPool> FromRequest for Writer<P> {
    type Error = Error;
    type Future = LocalBoxFuture<'static, Result<Self, Error>>;

    fn from_request(request: &HttpRequest, _: &mut Payload) -> Self::Future {
        let (pool, left) = (pool::<P>(request), TimeLeft::of(request).0);
        Seen::of(request).has_written();
        Box::pin(async move {
            let limit = left.begin()?;
            Ok(Self(pool?.checkout(Target::Primary, limit).await?))
        })
    }
}

impl<P: WebPool> FromRequest for Reader<P> {
    type Error = Error;
    type Future = LocalBoxFuture<'static, Result<Self, Error>>;

    fn from_request(request: &HttpRequest, _: &mut Payload) -> Self::Future {
        let (pool, left) = (pool::<P>(request), TimeLeft::of(request).0);
        let seen = Seen::of(request);
        Box::pin(async move {
            let limit = left.begin()?;
            Ok(Self(seen.checkout(&pool?, limit).await?))
        })
    }
}

/// Takes nothing of the request along: actix-web wants to have it alone.
fn pool<P: WebPool>(request: &HttpRequest) -> Result<P, Error> {
    if let Some(pool) = request.app_data::<Data<P>>() {
        return Ok(P::clone(pool));
    }
    request.app_data::<P>().cloned().ok_or_else(|| {
        Problem::misassembled(
            "This route asks for a pool that is not in the application's data: add \
             .app_data(web::Data::new(pool)), with a pool of the type that the handler names.",
        )
        .into()
    })
}

impl<P: WebPool> FromRequest for Tx<P> {
    type Error = Error;
    type Future = LocalBoxFuture<'static, Result<Self, Error>>;

    fn from_request(request: &HttpRequest, _: &mut Payload) -> Self::Future {
        let (pool, left) = (pool::<P>(request), TimeLeft::of(request).0);
        let transaction = request.extensions().get::<Transaction>().cloned();
        Seen::of(request).has_written();
        Box::pin(async move {
            let Some(transaction) = transaction else {
                return Err(Problem::misassembled(
                    "This route asks for a transaction, and the middleware that ends it is \
                     missing: add .wrap(leadpool_actix::Transactions::new()) to the application \
                     or scope.",
                )
                .into());
            };
            Ok(Self(transaction.begin(&pool?, left).await?))
        })
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
