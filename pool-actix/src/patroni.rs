//! A route for Patroni's callbacks.

use std::time::Duration;

use actix_web::{
    HttpRequest, HttpResponse, Route,
    http::header::{AUTHORIZATION, HeaderValue},
    web::{self as actix, Payload},
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
/// use actix_web::App;
/// use leadpool_actix::{PatroniCallback, leadpool::Pool};
///
/// # fn f(pool: Pool) -> Result<(), Box<dyn std::error::Error>> {
/// let callback = PatroniCallback::new(pool.cluster(), std::env::var("CALLBACK_SECRET")?)?;
/// let app = App::new().route("/patroni", callback.route());
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
    pub fn route(self) -> Route {
        actix::route().to(move |request: HttpRequest, body: Payload| {
            let callback = self.clone();
            async move { callback.answer(&request, body).await }
        })
    }

    async fn answer(&self, request: &HttpRequest, body: Payload) -> HttpResponse {
        let authorization = request.headers().get(AUTHORIZATION);
        let authorization = authorization.map(HeaderValue::as_bytes);
        if let Err(refused) = self.0.admit(request.method().as_str(), authorization) {
            return response(refused);
        }
        let arriving = body.to_bytes_limited(LONGEST_CALL);
        response(match tokio::time::timeout(ARRIVES_WITHIN, arriving).await {
            Ok(Ok(Ok(body))) => self.0.call(request.query_string(), &body),
            Ok(Err(_)) => web::PatroniCallback::too_long(),
            Ok(Ok(Err(_))) | Err(_) => web::PatroniCallback::broken_off(),
        })
    }
}
