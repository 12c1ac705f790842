//! Consistency tokens, from answers to the next requests.

use std::{
    convert::Infallible,
    fmt,
    ops::Deref,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use actix_web::{
    Error as ActixError, FromRequest, HttpMessage as _, HttpRequest, HttpResponse, ResponseError,
    dev::{Payload, Service, ServiceRequest, ServiceResponse, Transform},
    http::{
        StatusCode,
        header::{HeaderMap, HeaderName, HeaderValue, SET_COOKIE},
    },
};
use futures_util::future::{LocalBoxFuture, Ready, ready};
use leadpool::{
    Cluster,
    consistency::SigningKeys,
    web::{self, InvalidCarrier, Transaction},
};

use crate::{Error, TimeLeft};

/// A middleware with which clients see what they have written, also where a standby answers.
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
/// use actix_web::{App, web};
/// use leadpool_actix::{ReadYourWrites, Transactions, leadpool::{Pool, consistency::SigningKeys}};
///
/// # fn f(pool: Pool) -> Result<(), Box<dyn std::error::Error>> {
/// let keys = SigningKeys::new([std::env::var("TOKEN_KEY")?])?; // 32 random bytes or more
/// let app = App::new()
///     .app_data(web::Data::new(pool.clone()))
///     .wrap(Transactions::new())
///     .wrap(ReadYourWrites::new(pool.cluster(), keys));
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

impl<S, B> Transform<S, ServiceRequest> for ReadYourWrites
where
    S: Service<ServiceRequest, Response = ServiceResponse<B>, Error = ActixError>,
    S::Future: 'static,
    B: 'static,
{
    type Response = ServiceResponse<B>;
    type Error = ActixError;
    type Transform = ReadYourWritesService<S>;
    type InitError = ();
    type Future = Ready<Result<ReadYourWritesService<S>, ()>>;

    fn new_transform(&self, inner: S) -> Self::Future {
        let layer = self.0.clone();
        ready(Ok(ReadYourWritesService { inner, layer }))
    }
}

/// What the middleware [`ReadYourWrites`] makes of a service.
///
/// ```
/// use actix_web::dev::{Service, ServiceRequest};
/// use leadpool_actix::ReadYourWritesService;
///
/// fn f<S>(service: ReadYourWritesService<S>) -> impl Service<ServiceRequest>
/// where
///     ReadYourWritesService<S>: Service<ServiceRequest>,
/// {
///     service
/// }
/// ```
#[derive(Clone, Debug)]
pub struct ReadYourWritesService<S> {
    inner: S,
    layer: Arc<web::ReadYourWrites>,
}

impl<S, B> Service<ServiceRequest> for ReadYourWritesService<S>
where
    S: Service<ServiceRequest, Response = ServiceResponse<B>, Error = ActixError>,
    S::Future: 'static,
    B: 'static,
{
    type Response = ServiceResponse<B>;
    type Error = ActixError;
    type Future = LocalBoxFuture<'static, Result<ServiceResponse<B>, ActixError>>;

    fn poll_ready(&self, cx: &mut Context<'_>) -> Poll<Result<(), ActixError>> {
        self.inner.poll_ready(cx)
    }

    fn call(&self, request: ServiceRequest) -> Self::Future {
        let values = request.headers().get_all(self.layer.request_header());
        let begun = self
            .layer
            .begin(request.method().as_str(), values.map(HeaderValue::as_bytes));
        let seen = match begun {
            Ok(seen) => seen,
            Err(refused) => return Box::pin(ready(Err(Error::from(refused).into()))),
        };
        let left = TimeLeft::of(request.request()).0;
        let around = request.extensions().get::<Transaction>().cloned();
        request.extensions_mut().insert(Seen(seen.clone()));
        let (handler, layer) = (self.inner.call(request), self.layer.clone());
        Box::pin(async move {
            let answer = handler.await;
            if around.is_some_and(|transaction| transaction.is_begun()) {
                return Err(Error::from(web::ReadYourWrites::inside_of_transaction()).into());
            }
            let status = match &answer {
                Ok(answer) => answer.status(),
                Err(error) => error.as_response_error().status_code(),
            };
            let Some((name, value)) = layer.end(&seen, status.as_u16(), left).await else {
                return answer;
            };
            let name = HeaderName::from_bytes(name.as_bytes());
            let (Ok(name), Ok(value)) = (name, HeaderValue::from_str(&value)) else {
                return answer;
            };
            match answer {
                Ok(mut answer) => {
                    give(answer.headers_mut(), name, value);
                    Ok(answer)
                }
                Err(error) => Err(WithToken { error, name, value }.into()),
            }
        })
    }
}

fn give(headers: &mut HeaderMap, name: HeaderName, value: HeaderValue) {
    match name == SET_COOKIE {
        // The application may set others.
        true => headers.append(name, value),
        false => drop(headers.insert(name, value)),
    }
}

/// An error that is answered as ever, with a token.
#[derive(Debug)]
struct WithToken {
    error: ActixError,
    name: HeaderName,
    value: HeaderValue,
}

impl fmt::Display for WithToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.error, f)
    }
}

impl ResponseError for WithToken {
    fn status_code(&self) -> StatusCode {
        self.error.as_response_error().status_code()
    }

    fn error_response(&self) -> HttpResponse {
        let mut answer = self.error.error_response();
        give(answer.headers_mut(), self.name.clone(), self.value.clone());
        answer
    }
}

/// What this request must see, and what it has written: an extractor.
///
/// Without [`ReadYourWrites`] there is nothing that it must see, and nobody hears what it wrote.
///
/// ```
/// use actix_web::{HttpResponse, web};
/// use leadpool_actix::{Error, Seen, leadpool::Pool};
///
/// // A read in a transaction, repeated on another host if one fails.
/// async fn count(pool: web::Data<Pool>, seen: Seen) -> Result<web::Json<i64>, Error> {
///     let tx = match seen.token() {
///         Some(token) => pool.tx().reader_at(&token),
///         None => pool.tx().reader(),
///     };
///     let count = tx.run(|tx| async move {
///         Ok(tx.query_one("SELECT count(*) FROM orders", &[]).await?.get(0))
///     });
///     Ok(web::Json(count.await?))
/// }
///
/// // A write that costs no round trip for its token.
/// async fn add(pool: web::Data<Pool>, seen: Seen) -> Result<HttpResponse, Error> {
///     let tx = pool.tx().run_with_token(|tx| async move {
///         Ok(tx.execute("INSERT INTO orders DEFAULT VALUES", &[]).await?)
///     });
///     let (_, token) = tx.await?;
///     seen.wrote(&token);
///     Ok(HttpResponse::Created().finish())
/// }
/// # let _ = web::resource("/").get(count).post(add);
/// ```
#[derive(Clone, Debug, Default)]
pub struct Seen(pub(crate) web::Seen);

impl Seen {
    pub(crate) fn of(request: &HttpRequest) -> Self {
        request.extensions().get().cloned().unwrap_or_default()
    }
}

impl Deref for Seen {
    type Target = web::Seen;

    fn deref(&self) -> &web::Seen {
        &self.0
    }
}

impl FromRequest for Seen {
    type Error = Infallible;
    type Future = Ready<Result<Self, Infallible>>;

    fn from_request(request: &HttpRequest, _: &mut Payload) -> Self::Future {
        ready(Ok(Self::of(request)))
    }
}
