//! What is actix-web's alone.

use actix_web::{
    App as Actix, HttpResponse, ResponseError as _,
    http::StatusCode,
    web::{Data, post as on_post},
};
use leadpool::Pool;
use leadpool_actix::{Error, Transactions, Tx, Writer};

use crate::{both::*, support::App};

#[actix_web::test]
async fn a_pool_that_is_not_there_is_told_of_at_the_first_request() {
    async fn now(_: Writer) -> HttpResponse {
        HttpResponse::Ok().finish()
    }

    async fn add(_: Tx) -> HttpResponse {
        HttpResponse::Ok().finish()
    }

    let app = Actix::new()
        .wrap(Transactions::new())
        .route("/now", on_post().to(now))
        .route("/add", on_post().to(add));
    let app = App::of(app).await;
    for path in ["/now", "/add"] {
        let answer = post(&app, path).await;
        assert_eq!(answer.status, 500);
        let detail = answer.json()["detail"].to_string();
        assert!(detail.contains("app_data"), "{detail}");
    }
}

#[actix_web::test]
async fn the_pool_may_be_in_the_data_without_a_wrapper() {
    async fn now(Writer(client): Writer) -> Result<HttpResponse, Error> {
        client.simple_query("SELECT 1").await?;
        Ok(HttpResponse::Ok().finish())
    }

    let servers = start().await;
    let pool = Pool::connect(&servers.url()).await.unwrap();
    let app = Actix::new()
        .app_data(pool.clone())
        .route("/", on_post().to(now));
    assert_eq!(post(&App::of(app).await, "/").await.status, 200);
    let app = Actix::new()
        .app_data(Data::new(pool))
        .route("/", on_post().to(now));
    assert_eq!(post(&App::of(app).await, "/").await.status, 200);
}

#[actix_web::test]
async fn what_went_wrong_is_there_for_logs_and_not_for_clients() {
    let servers = start().await;
    let pool = Pool::connect(&servers.url()).await.unwrap();
    let client = pool.get().await.unwrap();
    let wrong = client.execute("INSERT INTO nothing VALUES (1)", &[]).await;
    let error = Error::from(wrong.unwrap_err());
    assert_eq!(error.status_code(), StatusCode::INTERNAL_SERVER_ERROR);
    let response = HttpResponse::from_error(error);
    let error: &Error = response.error().unwrap().as_error().unwrap();
    let code = error.cause().unwrap().with(|error| {
        let error = error.downcast_ref::<tokio_postgres::Error>();
        error.unwrap().code().unwrap().code().to_owned()
    });
    assert_eq!(code, "42P01");
}
