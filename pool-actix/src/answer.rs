//! leadpool's answers as actix-web's.

use actix_web::{HttpResponse, http::StatusCode};
use leadpool::web::Answer;

pub(crate) fn response(answer: Answer) -> HttpResponse {
    let status = StatusCode::from_u16(answer.status());
    let mut response = HttpResponse::build(status.unwrap_or(StatusCode::INTERNAL_SERVER_ERROR));
    for (name, value) in answer.headers() {
        response.append_header((*name, value.as_str()));
    }
    response.body(answer.into_body())
}
