//! An application of axum's, as the tests ask it.

use axum::{body::Body, http::Request};
use http_body_util::BodyExt as _;
use leadpool::Pool;
pub(crate) use leadpool_axum as web;
pub(crate) use tokio::{spawn, test};
use tower::ServiceExt as _;

use crate::{
    both::{Answer, Asked},
    support::web::{Dashboard, Deadline, Health, PatroniCallback, ReadYourWrites},
};

pub(crate) type App = axum::Router;

/// Sends a request to an application, without a socket.
pub(crate) async fn send(app: &App, asked: Asked) -> Answer {
    let mut request = Request::builder().method(asked.method).uri(&asked.path);
    for (name, value) in &asked.headers {
        request = request.header(*name, value);
    }
    let request = request.body(Body::from(asked.body)).unwrap();
    let Ok(response) = app.clone().oneshot(request).await;
    let (parts, body) = response.into_parts();
    let body = body.collect().await.unwrap().to_bytes();
    let headers = parts.headers.iter();
    Answer {
        status: parts.status.as_u16(),
        headers: headers
            .map(|(name, value)| (name.to_string(), value.to_str().unwrap().to_owned()))
            .collect(),
        body: String::from_utf8(body.to_vec()).unwrap(),
    }
}

/// The handlers on tokio-postgres, with these deadlines around them, the inner one first.
pub(crate) async fn native_within(pool: Pool, deadlines: &[Deadline]) -> App {
    let app = crate::drivers::native_of(pool).await;
    deadlines
        .iter()
        .fold(app, |app, deadline| app.layer(deadline.clone()))
}

/// Below `/health`.
pub(crate) async fn health_of<P: leadpool::web::WebPool>(health: Health<P>) -> App {
    App::new().nest("/health", health.router())
}

/// At `/patroni`.
pub(crate) async fn callbacks_of(callback: PatroniCallback) -> App {
    App::new().route("/patroni", callback.route())
}

/// At `/dashboard`.
pub(crate) async fn dashboard_of<P: leadpool::web::WebPool>(dashboard: Dashboard<P>) -> App {
    App::new().nest("/dashboard", dashboard.router())
}

/// The handlers on tokio-postgres, with this layer around them.
pub(crate) async fn native_seen(pool: Pool, layer: ReadYourWrites) -> App {
    crate::drivers::native_of(pool).await.layer(layer)
}

/// With the layer where it must not be.
pub(crate) async fn native_seen_inside(pool: Pool, layer: ReadYourWrites) -> App {
    let app = crate::drivers::bare_of(pool).layer(layer);
    app.layer(web::Transactions::new())
}

/// For those who say that they are one.
pub(crate) fn for_admins<P: leadpool::web::WebPool>(dashboard: Dashboard<P>) -> Dashboard<P> {
    dashboard.allow(|asked| asked.headers.contains_key("x-admin"))
}
