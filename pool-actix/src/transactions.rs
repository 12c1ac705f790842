//! The middleware that ends transactions.

use std::task::{Context, Poll};

use actix_web::{
    Error as ActixError, HttpMessage as _, HttpResponse,
    body::{EitherBody, MessageBody},
    dev::{Service, ServiceRequest, ServiceResponse, Transform},
};
use futures_util::future::{LocalBoxFuture, Ready, ready};
use leadpool::web::{Ended, Transaction};

use crate::{Error, error::rolled_back};

/// A middleware that ends the transactions of [`Tx`](crate::Tx), before the answer leaves: COMMIT for an
/// answer of 2xx or 3xx, ROLLBACK for any other.
///
/// - A COMMIT that fails, or of which can't be proved what became of it, makes a
///   [`Problem`](crate::Problem) of the answer. No success is ever told of what is not committed.
/// - When the transaction's host is given up, or the time is over, the handler is dropped as
///   [`run_tx`](leadpool::Pool::run_tx) drops its closure, and the answer is 503 or 504.
/// - When the handler panics, or the client goes away, the connection is closed, and the server
///   rolls back. Only of a COMMIT that is under way in that moment nobody learns what became of it.
///
/// Middleware outside of this one sees the answer that was committed, or the error in its place. What
/// is inside of it is part of the transaction: what makes an error of an answer there rolls back.
///
/// A request that asks for no transaction costs it nothing.
///
/// ```
/// use actix_web::{App, HttpResponse, web};
/// use leadpool_actix::Transactions;
///
/// let app = App::new()
///     .wrap(Transactions::new())
///     .route("/", web::get().to(HttpResponse::Ok));
/// ```
#[derive(Clone, Copy, Debug, Default)]
#[non_exhaustive]
pub struct Transactions;

impl Transactions {
    /// The middleware. It has no settings.
    #[must_use]
    pub fn new() -> Self {
        Self
    }
}

impl<S, B> Transform<S, ServiceRequest> for Transactions
where
    S: Service<ServiceRequest, Response = ServiceResponse<B>, Error = ActixError>,
    S::Future: 'static,
    B: MessageBody + 'static,
{
    type Response = ServiceResponse<EitherBody<B>>;
    type Error = ActixError;
    type Transform = TransactionsService<S>;
    type InitError = ();
    type Future = Ready<Result<TransactionsService<S>, ()>>;

    fn new_transform(&self, inner: S) -> Self::Future {
        ready(Ok(TransactionsService { inner }))
    }
}

/// What the middleware [`Transactions`] makes of a service.
///
/// ```
/// use actix_web::{HttpResponse, dev::{ServiceRequest, Transform, fn_service}};
/// use leadpool_actix::{Transactions, TransactionsService};
///
/// # async fn f() {
/// let service = fn_service(async |request: ServiceRequest| {
///     Ok::<_, actix_web::Error>(request.into_response(HttpResponse::Ok().finish()))
/// });
/// let service: Result<TransactionsService<_>, ()> = Transactions::new().new_transform(service).await;
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct TransactionsService<S> {
    inner: S,
}

impl<S, B> Service<ServiceRequest> for TransactionsService<S>
where
    S: Service<ServiceRequest, Response = ServiceResponse<B>, Error = ActixError>,
    S::Future: 'static,
    B: MessageBody + 'static,
{
    type Response = ServiceResponse<EitherBody<B>>;
    type Error = ActixError;
    type Future = LocalBoxFuture<'static, Result<Self::Response, ActixError>>;

    fn poll_ready(&self, cx: &mut Context<'_>) -> Poll<Result<(), ActixError>> {
        self.inner.poll_ready(cx)
    }

    fn call(&self, request: ServiceRequest) -> Self::Future {
        let transaction = Transaction::new();
        request.extensions_mut().insert(transaction.clone());
        let handler = self.inner.call(request);
        Box::pin(async move {
            let ended = transaction.around(handler, |answer| is_success(answer.as_ref()));
            let answer = match ended.await {
                Ended::RolledBack(answer) => return answer.map(known),
                Ended::Without(answer) | Ended::Committed(answer) => answer?,
                Ended::Failed(error) => return Err(Error::from(error).into()),
                // There is no other.
                _ => return Err(Error::from(leadpool::Error::Closed).into()),
            };
            Ok(answer.map_into_left_body())
        })
    }
}

fn is_success<B>(answer: Result<&ServiceResponse<B>, &ActixError>) -> bool {
    answer.is_ok_and(|answer| answer.status().as_u16() < 400)
}

/// The answer, in the light of the transaction's end.
fn known<B: MessageBody>(answer: ServiceResponse<B>) -> ServiceResponse<EitherBody<B>> {
    match answer.response().error().and_then(rolled_back) {
        Some(error) => {
            let response = HttpResponse::from_error(error);
            answer.into_response(response).map_into_right_body()
        }
        None => answer.map_into_left_body(),
    }
}
