//! A route for Patroni's callbacks.

use std::time::Duration;

use axum::{
    body::to_bytes,
    extract::Request,
    http::header::AUTHORIZATION,
    response::Response,
    routing::{MethodRouter, any},
};
use leadpool::{
    Cluster,
    web::{self, CallbackError, LONGEST_CALL},
};

use crate::answer::response;

/// How long a body may take to arrive.
const ARRIVES_WITHIN: Duration = Duration::from_secs(5);

/// Hears Patroni's callbacks in a route of the application, so that a planned switchover is looked
/// at in the moment in which it happens.
///
/// It answers 204 to a `POST` with the secret (`Authorization: Bearer <secret>`) that holds the three
/// words which Patroni gives its callbacks (`on_role_change primary batman`) as its body or its query
/// string; and 4xx, with what is wanted, to anything else. A body may have 4 KiB and take 5 s. A call
/// makes the monitor look at its hosts at once; it proves nothing and changes no role.
///
/// ```no_run
/// use axum::Router;
/// use leadpool_axum::{PatroniCallback, leadpool::Pool};
///
/// # fn f(pool: Pool) -> Result<(), Box<dyn std::error::Error>> {
/// let callback = PatroniCallback::new(pool.cluster(), std::env::var("CALLBACK_SECRET")?)?;
/// let app: Router = Router::new().route("/patroni", callback.route());
/// # Ok(())
/// # }
/// ```
///
/// The script that Patroni runs:
///
/// ```sh
/// #!/bin/sh
/// curl -sS -m 2 -H "Authorization: Bearer $CALLBACK_SECRET" -d "$1 $2 $3" https://app.internal/patroni
/// ```
#[derive(Clone, Debug)]
pub struct PatroniCallback(web::PatroniCallback);

impl PatroniCallback {
    /// For the callbacks of this cluster's Patroni.
    ///
    /// # Errors
    ///
    /// The secret can't be sent in a header.
    pub fn new(cluster: &Cluster, secret: impl AsRef<str>) -> Result<Self, CallbackError> {
        web::PatroniCallback::new(cluster, secret).map(Self)
    }

    /// The route.
    pub fn route<S: Clone + Send + Sync + 'static>(self) -> MethodRouter<S> {
        any(move |request: Request| async move { self.answer(request).await })
    }

    async fn answer(&self, request: Request) -> Response {
        let authorization = request.headers().get(AUTHORIZATION);
        let authorization = authorization.map(|value| value.as_bytes());
        if let Err(refused) = self.0.admit(request.method().as_str(), authorization) {
            return response(refused);
        }
        let (parts, body) = request.into_parts();
        let query = parts.uri.query().unwrap_or_default();
        let arriving = to_bytes(body, LONGEST_CALL);
        response(match tokio::time::timeout(ARRIVES_WITHIN, arriving).await {
            Ok(Ok(body)) => self.0.call(query, &body),
            Ok(Err(_)) => web::PatroniCallback::too_long(),
            Err(_) => web::PatroniCallback::broken_off(),
        })
    }
}
