//! How much time a request has.

use std::{
    convert::Infallible,
    task::{Context, Poll},
    time::Duration,
};

use axum::{
    extract::{FromRequestParts, Request},
    http::{HeaderValue, request::Parts},
    response::{IntoResponse, Response},
};
use futures_util::future::{Either, Ready, ready};
use leadpool::web;
use tower_layer::Layer;
use tower_service::Service;

use crate::Error;

/// A layer that says how much time the requests of its routes have.
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
/// header that is [named](Self::header), and never for more than the route gives. Of two such layers
/// around each other the shorter time counts.
///
/// ```
/// use std::time::Duration;
/// use axum::{Router, routing::get};
/// use leadpool_axum::Deadline;
///
/// let app: Router = Router::new()
///     .route("/", get(|| async {}))
///     .layer(Deadline::after(Duration::from_secs(5)).header("request-timeout"));
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

impl<S> Layer<S> for Deadline {
    type Service = DeadlineService<S>;

    fn layer(&self, inner: S) -> DeadlineService<S> {
        DeadlineService {
            inner,
            deadline: self.0.clone(),
        }
    }
}

/// What the layer [`Deadline`] makes of a service.
///
/// ```
/// use std::time::Duration;
/// use leadpool_axum::{Deadline, DeadlineService};
/// use tower_layer::Layer;
///
/// let service: DeadlineService<()> = Deadline::after(Duration::from_secs(5)).layer(());
/// ```
#[derive(Clone, Debug)]
pub struct DeadlineService<S> {
    inner: S,
    deadline: web::Deadline,
}

impl<S: Service<Request, Response = Response>> Service<Request> for DeadlineService<S> {
    type Response = Response;
    type Error = S::Error;
    type Future = Either<S::Future, Ready<Result<Response, S::Error>>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, mut request: Request) -> Self::Future {
        let asked = self.deadline.header_name();
        let asked = asked.map(|name| request.headers().get_all(name).into_iter());
        let asked = asked.into_iter().flatten().map(HeaderValue::as_bytes);
        match self.deadline.begin(asked) {
            Ok(left) => {
                let outer = request.extensions().get::<TimeLeft>().copied();
                let left = left.and(outer.unwrap_or_default().0);
                request.extensions_mut().insert(TimeLeft(left));
                Either::Left(self.inner.call(request))
            }
            Err(refused) => Either::Right(ready(Ok(Error::from(refused).into_response()))),
        }
    }
}

/// What the [`Deadline`] of a route leaves of a request's time: an extractor.
///
/// ```
/// use std::time::Duration;
/// use axum::extract::State;
/// use leadpool_axum::{Error, TimeLeft, leadpool::Pool};
///
/// async fn close(State(pool): State<Pool>, time: TimeLeft) -> Result<(), Error> {
///     pool.tx()
///         .deadline(time.within(Duration::from_secs(10)))
///         .run(|tx| async move { Ok(tx.execute("UPDATE orders SET open = false", &[]).await?) })
///         .await?;
///     Ok(())
/// }
/// # let _: axum::Router<Pool> = axum::Router::new().route("/", axum::routing::post(close));
/// ```
#[derive(Clone, Copy, Debug, Default)]
pub struct TimeLeft(pub(crate) web::TimeLeft);

impl TimeLeft {
    pub(crate) fn of(parts: &Parts) -> Self {
        parts.extensions.get().copied().unwrap_or_default()
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

impl<S: Send + Sync> FromRequestParts<S> for TimeLeft {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Infallible> {
        Ok(Self::of(parts))
    }
}
