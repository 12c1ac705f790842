//! How much time a request has.

use std::{
    convert::Infallible,
    task::{Context, Poll},
    time::Duration,
};

use actix_web::{
    Error as ActixError, FromRequest, HttpMessage as _, HttpRequest,
    dev::{Payload, Service, ServiceRequest, ServiceResponse, Transform},
    http::header::HeaderValue,
};
use futures_util::future::{Either, Ready, ready};
use leadpool::web;

use crate::Error;

/// A middleware that says how much time the requests of its routes have.
///
/// It bounds the wait for a connection in [`Writer`](crate::Writer) and [`Reader`](crate::Reader),
/// and the whole of a [`Tx`](crate::Tx), its COMMIT included; a handler passes it on to
/// [`run_tx`](leadpool::Pool::run_tx) as [`TimeLeft`]. When it is over before there is a connection
/// or a COMMIT, the answer is 503 or 504.
///
/// It cuts off nothing by itself: a COMMIT that is cut off is one in doubt. Nor does it bound
/// statements on a connection that a handler holds:
/// [`statement_timeout`](leadpool::config::PoolSettings::statement_timeout) does.
///
/// HTTP has no standard header for a client's own time. So a client may ask for less only in a
/// header that is [named](Self::header), and never for more than the route gives. Of two of them
/// around each other the shorter time counts.
///
/// ```
/// use std::time::Duration;
/// use actix_web::{App, HttpResponse, web};
/// use leadpool_actix::Deadline;
///
/// let app = App::new()
///     .wrap(Deadline::after(Duration::from_secs(5)).header("request-timeout"))
///     .route("/", web::get().to(HttpResponse::Ok));
/// ```
#[derive(Clone, Debug)]
pub struct Deadline(web::Deadline);

impl Deadline {
    /// Each request has this long.
    #[must_use]
    pub fn after(limit: Duration) -> Self {
        Self(web::Deadline::after(limit))
    }

    /// A client may ask for less in this header: a number of seconds, or a number with a unit
    /// (`1.5`, `200ms`). Anything else there is answered by 400.
    #[must_use]
    pub fn header(self, name: impl Into<String>) -> Self {
        Self(self.0.header(name))
    }
}

impl<S, B> Transform<S, ServiceRequest> for Deadline
where
    S: Service<ServiceRequest, Response = ServiceResponse<B>, Error = ActixError>,
{
    type Response = ServiceResponse<B>;
    type Error = ActixError;
    type Transform = DeadlineService<S>;
    type InitError = ();
    type Future = Ready<Result<DeadlineService<S>, ()>>;

    fn new_transform(&self, inner: S) -> Self::Future {
        let deadline = self.0.clone();
        ready(Ok(DeadlineService { inner, deadline }))
    }
}

/// What the middleware [`Deadline`] makes of a service.
///
/// ```
/// use std::time::Duration;
/// use actix_web::{HttpResponse, dev::{ServiceRequest, Transform, fn_service}};
/// use leadpool_actix::{Deadline, DeadlineService};
///
/// # async fn f() {
/// let service = fn_service(async |request: ServiceRequest| {
///     Ok::<_, actix_web::Error>(request.into_response(HttpResponse::Ok().finish()))
/// });
/// let deadline = Deadline::after(Duration::from_secs(5));
/// let service: Result<DeadlineService<_>, ()> = deadline.new_transform(service).await;
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct DeadlineService<S> {
    inner: S,
    deadline: web::Deadline,
}

impl<S, B> Service<ServiceRequest> for DeadlineService<S>
where
    S: Service<ServiceRequest, Response = ServiceResponse<B>, Error = ActixError>,
{
    type Response = ServiceResponse<B>;
    type Error = ActixError;
    type Future = Either<S::Future, Ready<Result<ServiceResponse<B>, ActixError>>>;

    fn poll_ready(&self, cx: &mut Context<'_>) -> Poll<Result<(), ActixError>> {
        self.inner.poll_ready(cx)
    }

    fn call(&self, request: ServiceRequest) -> Self::Future {
        let asked = self.deadline.header_name();
        let asked = asked.map(|name| request.headers().get_all(name));
        let asked = asked.into_iter().flatten().map(HeaderValue::as_bytes);
        match self.deadline.begin(asked) {
            Ok(left) => {
                let outer = TimeLeft::of(request.request());
                request.extensions_mut().insert(TimeLeft(left.and(outer.0)));
                Either::Left(self.inner.call(request))
            }
            Err(refused) => Either::Right(ready(Err(Error::from(refused).into()))),
        }
    }
}

/// What the [`Deadline`] of a route leaves of a request's time: an extractor.
///
/// ```
/// use std::time::Duration;
/// use actix_web::{HttpResponse, web};
/// use leadpool_actix::{Error, TimeLeft, leadpool::Pool};
///
/// async fn close(pool: web::Data<Pool>, time: TimeLeft) -> Result<HttpResponse, Error> {
///     pool.tx()
///         .deadline(time.within(Duration::from_secs(10)))
///         .run(|tx| async move { Ok(tx.execute("UPDATE orders SET open = false", &[]).await?) })
///         .await?;
///     Ok(HttpResponse::NoContent().finish())
/// }
/// # let _ = web::post().to(close);
/// ```
#[derive(Clone, Copy, Debug, Default)]
pub struct TimeLeft(pub(crate) web::TimeLeft);

impl TimeLeft {
    pub(crate) fn of(request: &HttpRequest) -> Self {
        request.extensions().get().copied().unwrap_or_default()
    }

    /// How long it is; `None` without a [`Deadline`], zero when it is over.
    #[must_use]
    pub fn left(self) -> Option<Duration> {
        self.0.left()
    }

    /// The time for something that may take `limit` at most.
    #[must_use]
    pub fn within(self, limit: Duration) -> Duration {
        self.0.within(limit)
    }
}

impl FromRequest for TimeLeft {
    type Error = Infallible;
    type Future = Ready<Result<Self, Infallible>>;

    fn from_request(request: &HttpRequest, _: &mut Payload) -> Self::Future {
        ready(Ok(Self::of(request)))
    }
}
