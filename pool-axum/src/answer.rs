//! leadpool's answers as axum's.

use axum::{
    body::Body,
    http::{HeaderName, HeaderValue, StatusCode},
    response::{IntoResponse, Response},
};
use leadpool::web::Answer;

pub(crate) fn response(answer: Answer) -> Response {
    let Ok(status) = StatusCode::from_u16(answer.status()) else {
        return StatusCode::INTERNAL_SERVER_ERROR.into_response();
    };
    let mut headers = axum::http::HeaderMap::new();
    for (name, value) in answer.headers() {
        if let Ok(value) = HeaderValue::from_str(value) {
            headers.append(HeaderName::from_static(name), value);
        }
    }
    let mut response = Response::new(Body::from(answer.into_body()));
    *response.status_mut() = status;
    *response.headers_mut() = headers;
    response
}
