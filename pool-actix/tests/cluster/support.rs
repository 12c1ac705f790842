//! An application of actix-web's, as the tests ask it.

use std::rc::Rc;

use actix_web::{
    Error, HttpResponse,
    body::{MessageBody, to_bytes},
    dev::{Service as _, ServiceFactory, ServiceRequest, ServiceResponse},
    http::Method,
    test::{TestRequest, init_service},
};
pub(crate) use actix_web::{rt::spawn, test};
use futures_util::future::LocalBoxFuture;
use leadpool::Pool;
pub(crate) use leadpool_actix as web;

use crate::{
    both::{Answer, Asked},
    support::web::{Dashboard, Deadline, Health, PatroniCallback, ReadYourWrites},
};

/// An application, whatever its type.
#[derive(Clone)]
pub(crate) struct App(Rc<dyn Fn(TestRequest) -> LocalBoxFuture<'static, HttpResponse>>);

impl App {
    pub(crate) async fn of<F, B>(app: actix_web::App<F>) -> Self
    where
        F: ServiceFactory<
                ServiceRequest,
                Config = (),
                Response = ServiceResponse<B>,
                Error = Error,
                InitError = (),
            > + 'static,
        B: MessageBody + 'static,
    {
        let service = Rc::new(init_service(app).await);
        Self(Rc::new(move |request| {
            let service = service.clone();
            Box::pin(async move {
                match service.call(request.to_request()).await {
                    Ok(answer) => answer.into_parts().1.map_into_boxed_body(),
                    // As the server does it.
                    Err(error) => error.into(),
                }
            })
        }))
    }
}

/// Sends a request to an application, without a socket.
pub(crate) async fn send(app: &App, asked: Asked) -> Answer {
    let mut request = TestRequest::default()
        .method(Method::from_bytes(asked.method.as_bytes()).unwrap())
        .uri(&asked.path)
        .set_payload(asked.body);
    for (name, value) in &asked.headers {
        request = request.append_header((*name, value.as_str()));
    }
    let response = (app.0)(request).await;
    let status = response.status().as_u16();
    let headers = response.headers().iter();
    let headers = headers
        .map(|(name, value)| (name.to_string(), value.to_str().unwrap().to_owned()))
        .collect();
    let body = to_bytes(response.into_body()).await.unwrap();
    Answer {
        status,
        headers,
        body: String::from_utf8(body.to_vec()).unwrap(),
    }
}

/// The handlers on tokio-postgres, with these deadlines around them, the inner one first.
pub(crate) async fn native_within(pool: Pool, deadlines: &[Deadline]) -> App {
    match deadlines {
        [one] => App::of(crate::drivers::native_app(pool).wrap(one.clone())).await,
        [inner, outer] => {
            let app = crate::drivers::native_app(pool).wrap(inner.clone());
            App::of(app.wrap(outer.clone())).await
        }
        _ => panic!("one or two"),
    }
}

/// Below `/health`.
pub(crate) async fn health_of<P: leadpool::web::WebPool>(health: Health<P>) -> App {
    App::of(actix_web::App::new().service(health.service("/health"))).await
}

/// At `/patroni`.
pub(crate) async fn callbacks_of(callback: PatroniCallback) -> App {
    App::of(actix_web::App::new().route("/patroni", callback.route())).await
}

/// At `/dashboard`.
pub(crate) async fn dashboard_of<P: leadpool::web::WebPool>(dashboard: Dashboard<P>) -> App {
    App::of(actix_web::App::new().service(dashboard.service("/dashboard"))).await
}

/// The handlers on tokio-postgres, with this layer around them.
pub(crate) async fn native_seen(pool: Pool, layer: ReadYourWrites) -> App {
    App::of(crate::drivers::native_app(pool).wrap(layer)).await
}

/// With the layer where it must not be.
pub(crate) async fn native_seen_inside(pool: Pool, layer: ReadYourWrites) -> App {
    let app = crate::drivers::bare_app(pool).wrap(layer);
    App::of(app.wrap(web::Transactions::new())).await
}

/// For those who say that they are one.
pub(crate) fn for_admins<P: leadpool::web::WebPool>(dashboard: Dashboard<P>) -> Dashboard<P> {
    dashboard.allow(|asked| asked.headers().contains_key("x-admin"))
}
