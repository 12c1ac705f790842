//! Routes for a page that shows the cluster.

use std::{convert::Infallible, fmt, sync::Arc};

use actix_web::{
    HttpRequest, HttpResponse, ResponseError as _, Scope, guard,
    http::header::CACHE_CONTROL,
    web::{self as actix, Bytes, scope},
};
use futures_util::stream::unfold;
use leadpool::web::{self, Watcher, WebPool};

use crate::{Error, answer::response};

type Allow = Arc<dyn Fn(&HttpRequest) -> bool + Send + Sync>;

/// A page that shows the cluster as it is now and what has become of it since the service began, to
/// have open while something happens: hosts with their role, timeline and lag, sub-pools, who was the
/// writer when and how long there was none, transactions, retries and outcomes. It renews itself, has
/// all in one page, and changes nothing.
///
/// It names hosts and what they say of themselves, so nobody sees it until the application says
/// [who may](Self::allow). Make it once, at the start of the service: it records from then on.
///
/// ```no_run
/// use actix_web::{App, HttpRequest};
/// use leadpool_actix::{Dashboard, leadpool::Pool};
///
/// # fn is_admin(request: &HttpRequest) -> bool { false }
/// # fn f(pool: Pool) {
/// let dashboard = Dashboard::new(pool).allow(is_admin);
/// let app = move || App::new().service(dashboard.clone().service("/dashboard"));
/// # drop(app);
/// # }
/// ```
///
/// Where a middleware of the application's own decides, it goes around these routes:
/// `Dashboard::new(pool).allow(|_| true).service("/dashboard").wrap(auth)`.
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
    /// Shows this pool and its cluster; to nobody yet. Call it outside of the closure that makes the
    /// application for each worker.
    #[must_use]
    pub fn new(pool: P) -> Self {
        Self {
            shown: web::Dashboard::new(pool),
            allow: Arc::new(|_| false),
        }
    }

    /// Who may see it; all others get 403.
    #[must_use]
    pub fn allow(self, may: impl Fn(&HttpRequest) -> bool + Send + Sync + 'static) -> Self {
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

    /// The routes below this path.
    pub fn service(self, path: &str) -> Scope {
        let (page, slash, events) = (self.clone(), self.clone(), self);
        let reads = || guard::Any(guard::Get()).or(guard::Head());
        let route = |shown: Self| {
            let answer = move |request: HttpRequest| {
                let answer = shown.page(&request);
                async move { answer }
            };
            actix::route().guard(reads()).to(answer)
        };
        scope(path.trim_end_matches('/'))
            .route("", route(page))
            .route("/", route(slash))
            .route(
                "/events",
                actix::get().to(move |request: HttpRequest| {
                    let answer = events.events(&request);
                    async move { answer }
                }),
            )
    }

    fn page(&self, request: &HttpRequest) -> HttpResponse {
        match (self.allow)(request) {
            true => response(self.shown.page()),
            false => response(web::Dashboard::<P>::forbidden()),
        }
    }

    fn events(&self, request: &HttpRequest) -> HttpResponse {
        if !(self.allow)(request) {
            return response(web::Dashboard::<P>::forbidden());
        }
        match self.shown.watch() {
            Ok(watcher) => stream(watcher),
            Err(crowded) => Error::from(crowded).error_response(),
        }
    }
}

fn stream(watcher: Watcher) -> HttpResponse {
    let frames = unfold(watcher, |mut watcher| async move {
        let frame = watcher.next().await?;
        let frame = Bytes::copy_from_slice(frame.as_bytes());
        Some((Ok::<_, Infallible>(frame), watcher))
    });
    HttpResponse::Ok()
        .content_type("text/event-stream")
        .insert_header((CACHE_CONTROL, "no-store"))
        // nginx holds answers back otherwise.
        .insert_header(("x-accel-buffering", "no"))
        .streaming(frames)
}

impl<P> fmt::Debug for Dashboard<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Dashboard")
            .field("shown", &self.shown)
            .finish_non_exhaustive()
    }
}
