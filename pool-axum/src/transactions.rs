//! The layer that ends transactions.

use std::task::{Context, Poll};

use axum::{
    extract::Request,
    response::{IntoResponse, Response},
};
use futures_util::future::BoxFuture;
use leadpool::web::{Ended, Transaction};
use tower_layer::Layer;
use tower_service::Service;

use crate::{Error, error::rolled_back};

/// A layer that ends the transactions of [`Tx`](crate::Tx), before the answer leaves: COMMIT for an
/// answer of 2xx or 3xx, ROLLBACK for any other.
///
/// - A COMMIT that fails, or of which can't be proved what became of it, makes a
///   [`Problem`](crate::Problem) of the answer. No success is ever told of what is not committed.
/// - When the transaction's host is given up, or the time is over, the handler is dropped as
///   [`run_tx`](leadpool::Pool::run_tx) drops its closure, and the answer is 503 or 504.
/// - When the handler panics, or the client goes away, the connection is closed, and the server
///   rolls back. Only of a COMMIT that is under way in that moment nobody learns what became of it.
///
/// Layers outside of this one see the answer that was committed. Layers inside of it are part of the
/// transaction: what makes an error of an answer there rolls back, and one that catches panics does
/// so too by its answer of 500.
///
/// A request that asks for no transaction costs it nothing.
///
/// ```
/// use axum::{Router, routing::get};
/// use leadpool_axum::Transactions;
///
/// let app: Router = Router::new().route("/", get(|| async {})).layer(Transactions::new());
/// ```
#[derive(Clone, Copy, Debug, Default)]
#[non_exhaustive]
pub struct Transactions;

impl Transactions {
    /// The layer. It has no settings.
    #[must_use]
    pub fn new() -> Self {
        Self
    }
}

impl<S> Layer<S> for Transactions {
    type Service = TransactionsService<S>;

    fn layer(&self, inner: S) -> TransactionsService<S> {
        TransactionsService { inner }
    }
}

/// What the layer [`Transactions`] makes of a service.
///
/// ```
/// use leadpool_axum::{Transactions, TransactionsService};
/// use tower_layer::Layer;
///
/// let service: TransactionsService<()> = Transactions::new().layer(());
/// ```
#[derive(Clone, Debug)]
pub struct TransactionsService<S> {
    inner: S,
}

impl<S> Service<Request> for TransactionsService<S>
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
        let transaction = Transaction::new();
        request.extensions_mut().insert(transaction.clone());
        let handler = self.inner.call(request);
        Box::pin(async move {
            let ended = transaction.around(handler, |answer| is_success(answer.as_ref()));
            match ended.await {
                Ended::RolledBack(answer) => answer.map(rolled_back),
                Ended::Failed(error) => Ok(Error::from(error).into_response()),
                Ended::Without(answer) | Ended::Committed(answer) => answer,
                // There is no other.
                _ => Ok(Error::from(leadpool::Error::Closed).into_response()),
            }
        })
    }
}

fn is_success<E>(answer: Result<&Response, E>) -> bool {
    answer.is_ok_and(|answer| answer.status().as_u16() < 400)
}
