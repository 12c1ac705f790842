//! Routes for a page that shows the cluster.

use std::{convert::Infallible, fmt, sync::Arc};

use axum::{
    Router,
    body::{Body, Bytes},
    extract::Request,
    http::{
        HeaderValue,
        header::{CACHE_CONTROL, CONTENT_TYPE, HeaderName},
        request::Parts,
    },
    response::{IntoResponse, Response},
    routing::get,
};
use futures_util::stream::unfold;
use leadpool::web::{self, Watcher, WebPool};

use crate::{Error, answer::response};

type Allow = Arc<dyn Fn(&Parts) -> bool + Send + Sync>;

/// A page that shows the cluster as it is now and what has become of it since the service began, to
/// have open while something happens: hosts with their role, timeline and lag, sub-pools, who was the
/// writer when and how long there was none, transactions, retries and outcomes. It renews itself, has
/// all in one page, and changes nothing.
///
/// It names hosts and what they say of themselves, so nobody sees it until the application says
/// [who may](Self::allow). Make it once, at the start of the service: it records from then on.
///
/// ```no_run
/// use axum::Router;
/// use leadpool_axum::{Dashboard, leadpool::Pool};
///
/// # fn is_admin(headers: &axum::http::HeaderMap) -> bool { false }
/// # fn f(pool: Pool) {
/// let dashboard = Dashboard::new(pool).allow(|request| is_admin(&request.headers));
/// let app: Router = Router::new().nest("/dashboard", dashboard.router());
/// # }
/// ```
///
/// Where a layer of the application's own decides, it goes around these routes:
/// `Dashboard::new(pool).allow(|_| true).router().layer(auth)`.
///
/// Events are sent over one connection a viewer, which lasts 10 minutes at most before the browser
/// asks again, and may. [`serve`](crate::serve()) ends them when the service ends; a server that is
/// ended in another way waits for them.
#[derive(Clone)]
pub struct Dashboard<P = leadpool::Pool> {
    shown: web::Dashboard<P>,
    allow: Allow,
}

impl<P: WebPool> Dashboard<P> {
    /// Shows this pool and its cluster; to nobody yet.
    #[must_use]
    pub fn new(pool: P) -> Self {
        Self {
            shown: web::Dashboard::new(pool),
            allow: Arc::new(|_| false),
        }
    }

    /// Who may see it; all others get 403.
    #[must_use]
    pub fn allow(self, may: impl Fn(&Parts) -> bool + Send + Sync + 'static) -> Self {
        let allow = Arc::new(may);
        Self { allow, ..self }
    }

    /// How many may watch at a time; 32 by default. Who comes then gets 503, and the page tries
    /// again.
    #[must_use]
    pub fn most_watchers(self, most: usize) -> Self {
        let shown = self.shown.most_watchers(most);
        Self { shown, ..self }
    }

    /// The routes, to nest below a path without a slash at its end.
    pub fn router<S: Clone + Send + Sync + 'static>(self) -> Router<S> {
        let (page, events) = (self.clone(), self);
        Router::new()
            .route(
                "/",
                get(move |request: Request| async move { page.page(request) }),
            )
            .route(
                "/events",
                get(move |request: Request| async move { events.events(request) }),
            )
    }

    fn page(&self, asked: Request) -> Response {
        match (self.allow)(&asked.into_parts().0) {
            true => response(self.shown.page()),
            false => response(web::Dashboard::<P>::forbidden()),
        }
    }

    fn events(&self, asked: Request) -> Response {
        if !(self.allow)(&asked.into_parts().0) {
            return response(web::Dashboard::<P>::forbidden());
        }
        match self.shown.watch() {
            Ok(watcher) => stream(watcher),
            Err(crowded) => Error::from(crowded).into_response(),
        }
    }
}

fn stream(watcher: Watcher) -> Response {
    let frames = unfold(watcher, |mut watcher| async move {
        let frame = watcher.next().await?;
        Some((
            Ok::<_, Infallible>(Bytes::copy_from_slice(frame.as_bytes())),
            watcher,
        ))
    });
    let mut response = Response::new(Body::from_stream(frames));
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    // nginx holds answers back otherwise.
    let buffering = HeaderName::from_static("x-accel-buffering");
    headers.insert(buffering, HeaderValue::from_static("no"));
    response
}

impl<P> fmt::Debug for Dashboard<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Dashboard")
            .field("shown", &self.shown)
            .finish_non_exhaustive()
    }
}
