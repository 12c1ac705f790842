//! Consistency tokens, from answers to the next requests.

use std::{
    convert::Infallible,
    ops::Deref,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use axum::{
    extract::{FromRequestParts, Request},
    http::{HeaderName, HeaderValue, header::SET_COOKIE, request::Parts},
    response::{IntoResponse, Response},
};
use futures_util::future::{BoxFuture, FutureExt as _, ready};
use leadpool::{
    Cluster,
    consistency::SigningKeys,
    web::{self, InvalidCarrier, Transaction},
};
use tower_layer::Layer;
use tower_service::Service;

use crate::{Error, TimeLeft};

/// A layer with which clients see what they have written, also where a standby answers.
///
/// Whoever has written gets a signed [token](leadpool::manual::consistency) of it, in a cookie, and
/// brings it along with the next requests. [`Reader`](crate::Reader) then takes a standby that has
/// replayed it, or the writer; other reads take the token from [`Seen`].
///
/// A request has written if its method is not `GET`, `HEAD`, `OPTIONS` or `TRACE`, if its handler
/// takes a [`Writer`](crate::Writer) or a [`Tx`](crate::Tx), or if it says so
/// ([`Seen::has_written`](web::Seen::has_written)).
///
/// | the answer to it | what it costs | what the client's reads show |
/// |---|---|---|
/// | 2xx, 3xx | one round trip to the writer, shared by all who ask at the same time; none if the handler [tells the token](web::Seen::wrote) | all that was committed |
/// | 4xx | nothing | what they showed before |
/// | 5xx, or no writer within 1 s | nothing | the writer's state, until a later answer tells more |
///
/// Put it around [`Transactions`](crate::Transactions): what is not committed has no token.
///
/// What comes back forged, cut, or signed with a key that was given up costs the client its cookie;
/// in a [header](Self::header) it is refused with 400. All instances of a service need the same
/// keys. Of requests that one client makes side by side, the last answer's token counts.
/// What the body of an answer writes while it is streamed is in no token.
///
/// ```no_run
/// use axum::{Router, routing::get};
/// use leadpool_axum::{ReadYourWrites, Transactions, leadpool::{Pool, consistency::SigningKeys}};
///
/// # fn f(pool: Pool) -> Result<(), Box<dyn std::error::Error>> {
/// let keys = SigningKeys::new([std::env::var("TOKEN_KEY")?])?; // 32 random bytes or more
/// let app: Router = Router::new()
///     .route("/", get(|| async {}))
///     .layer(Transactions::new())
///     .layer(ReadYourWrites::new(pool.cluster(), keys));
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct ReadYourWrites(Arc<web::ReadYourWrites>);

impl ReadYourWrites {
    /// Tokens of this cluster in a cookie: `leadpool-seen`, for all paths, for an hour, for HTTPS
    /// only, and not for scripts.
    #[must_use]
    pub fn new(cluster: &Cluster, keys: SigningKeys) -> Self {
        Self(Arc::new(web::ReadYourWrites::new(cluster, keys)))
    }

    /// Another name for the cookie.
    ///
    /// # Errors
    ///
    /// The name is no token of HTTP.
    pub fn cookie(self, name: impl Into<String>) -> Result<Self, InvalidCarrier> {
        Arc::unwrap_or_clone(self.0).cookie(name).map(Self::of)
    }

    /// A header of requests and answers instead of a cookie, for clients that are programs: they
    /// send what the last answer had there.
    ///
    /// # Errors
    ///
    /// The name is no token of HTTP.
    pub fn header(self, name: impl Into<String>) -> Result<Self, InvalidCarrier> {
        Arc::unwrap_or_clone(self.0).header(name).map(Self::of)
    }

    /// How long the cookie lives after each write: longer than standbys may be behind. In whole
    /// seconds; 1 h by default. A header has none.
    #[must_use]
    pub fn lasts(self, time: Duration) -> Self {
        Self::of(Arc::unwrap_or_clone(self.0).lasts(time))
    }

    /// The paths that the cookie is for. A header has none.
    ///
    /// # Errors
    ///
    /// The path does not begin with `/`, or holds what no cookie can carry.
    pub fn path(self, path: impl Into<String>) -> Result<Self, InvalidCarrier> {
        Arc::unwrap_or_clone(self.0).path(path).map(Self::of)
    }

    /// Gives the cookie also over plain HTTP. Browsers take `localhost` for secure anyway.
    #[must_use]
    pub fn insecure(self) -> Self {
        Self::of(Arc::unwrap_or_clone(self.0).insecure())
    }

    fn of(shared: web::ReadYourWrites) -> Self {
        Self(Arc::new(shared))
    }
}

impl<S> Layer<S> for ReadYourWrites {
    type Service = ReadYourWritesService<S>;

    fn layer(&self, inner: S) -> ReadYourWritesService<S> {
        let layer = self.0.clone();
        ReadYourWritesService { inner, layer }
    }
}

/// What the layer [`ReadYourWrites`] makes of a service.
///
/// ```no_run
/// use leadpool_axum::{ReadYourWrites, ReadYourWritesService};
/// use tower_layer::Layer;
///
/// # fn f(layer: ReadYourWrites) {
/// let service: ReadYourWritesService<()> = layer.layer(());
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct ReadYourWritesService<S> {
    inner: S,
    layer: Arc<web::ReadYourWrites>,
}

impl<S> Service<Request> for ReadYourWritesService<S>
where
    S: Service<Request, Response = Response>,
    S::Future: Send + 'static,
    S::Error: Send + 'static,
{
    type Response = Response;
    type Error = S::Error;
    type Future = BoxFuture<'static, Result<Response, S::Error>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, mut request: Request) -> Self::Future {
        let values = request.headers().get_all(self.layer.request_header());
        let values = values.into_iter().map(HeaderValue::as_bytes);
        let seen = match self.layer.begin(request.method().as_str(), values) {
            Ok(seen) => seen,
            Err(refused) => return ready(Ok(Error::from(refused).into_response())).boxed(),
        };
        let left = request.extensions().get::<TimeLeft>().copied();
        let left = left.unwrap_or_default().0;
        let around = request.extensions().get::<Transaction>().cloned();
        request.extensions_mut().insert(Seen(seen.clone()));
        let (handler, layer) = (self.inner.call(request), self.layer.clone());
        Box::pin(async move {
            let mut answer = handler.await?;
            if around.is_some_and(|transaction| transaction.is_begun()) {
                return Ok(
                    Error::from(web::ReadYourWrites::inside_of_transaction()).into_response()
                );
            }
            let status = answer.status().as_u16();
            if let Some((name, value)) = layer.end(&seen, status, left).await {
                give(&mut answer, name, &value);
            }
            Ok(answer)
        })
    }
}

fn give(answer: &mut Response, name: &str, value: &str) {
    let name = HeaderName::from_bytes(name.as_bytes());
    if let (Ok(name), Ok(value)) = (name, HeaderValue::from_str(value)) {
        match name == SET_COOKIE {
            // The application may set others.
            true => drop(answer.headers_mut().append(name, value)),
            false => drop(answer.headers_mut().insert(name, value)),
        }
    }
}

/// What this request must see, and what it has written: an extractor.
///
/// Without [`ReadYourWrites`] there is nothing that it must see, and nobody hears what it wrote.
///
/// ```
/// use axum::{Json, extract::State, http::StatusCode};
/// use leadpool_axum::{Error, Seen, leadpool::Pool};
///
/// // A read in a transaction, repeated on another host if one fails.
/// async fn count(State(pool): State<Pool>, seen: Seen) -> Result<Json<i64>, Error> {
///     let tx = match seen.token() {
///         Some(token) => pool.tx().reader_at(&token),
///         None => pool.tx().reader(),
///     };
///     let count = tx.run(|tx| async move {
///         Ok(tx.query_one("SELECT count(*) FROM orders", &[]).await?.get(0))
///     });
///     Ok(Json(count.await?))
/// }
///
/// // A write that costs no round trip for its token.
/// async fn add(State(pool): State<Pool>, seen: Seen) -> Result<StatusCode, Error> {
///     let tx = pool.tx().run_with_token(|tx| async move {
///         Ok(tx.execute("INSERT INTO orders DEFAULT VALUES", &[]).await?)
///     });
///     let (_, token) = tx.await?;
///     seen.wrote(&token);
///     Ok(StatusCode::CREATED)
/// }
/// # let _: axum::Router<Pool> = axum::Router::new()
/// #     .route("/", axum::routing::get(count).post(add));
/// ```
#[derive(Clone, Debug, Default)]
pub struct Seen(pub(crate) web::Seen);

impl Seen {
    pub(crate) fn of(parts: &Parts) -> Self {
        parts.extensions.get().cloned().unwrap_or_default()
    }
}

impl Deref for Seen {
    type Target = web::Seen;

    fn deref(&self) -> &web::Seen {
        &self.0
    }
}

impl<S: Send + Sync> FromRequestParts<S> for Seen {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Infallible> {
        Ok(Self::of(parts))
    }
}
