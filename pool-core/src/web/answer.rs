//! An answer, before a framework makes its own of it.

use serde_json::Value;

/// An answer to an HTTP request: what a framework makes its own response of.
///
/// ```
/// use leadpool::web::Problem;
///
/// let answer = Problem::refused(404, "there is no such order").answer();
/// assert_eq!(answer.status(), 404);
/// assert!(answer.headers().contains(&("content-type", "application/problem+json".into())));
/// assert!(answer.into_body().contains("there is no such order"));
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    status: u16,
    headers: Vec<(&'static str, String)>,
    body: String,
}

impl Answer {
    pub(super) fn json(status: u16, body: &Value) -> Self {
        Self::new(status, "application/json", body.to_string())
    }

    pub(super) fn problem(status: u16, body: &Value) -> Self {
        Self::new(status, "application/problem+json", body.to_string())
    }

    pub(super) fn html(body: &str) -> Self {
        Self::new(200, "text/html; charset=utf-8", body.to_owned())
    }

    pub(super) fn empty(status: u16) -> Self {
        Self {
            status,
            headers: Vec::new(),
            body: String::new(),
        }
        .with("cache-control", "no-store")
    }

    fn new(status: u16, kind: &str, body: String) -> Self {
        // What was so a moment ago may not be so now.
        Self {
            body,
            ..Self::empty(status)
        }
        .with("content-type", kind)
    }

    pub(super) fn with(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.headers.push((name, value.into()));
        self
    }

    /// The status code.
    #[must_use]
    pub fn status(&self) -> u16 {
        self.status
    }

    /// The headers: names in lower case, values in printable ASCII.
    #[must_use]
    pub fn headers(&self) -> &[(&'static str, String)] {
        &self.headers
    }

    /// The body, in UTF-8; empty if there is none.
    #[must_use]
    pub fn into_body(self) -> String {
        self.body
    }
}
