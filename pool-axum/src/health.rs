//! Routes for who asks whether the service is well.

use axum::{Router, routing::get};
use leadpool::web::{self, Readiness, WebPool};

use crate::answer::response;

/// Routes for who looks after the service: `/live`, `/ready`, and if wanted `/status`.
///
/// They ask no server anything: the answers are what the monitor knows.
///
/// | route | answer |
/// |---|---|
/// | `/live` | 200, whatever becomes of the database: a restart of the process cures nothing there |
/// | `/ready` | 200 while there is a usable host ([which](Self::ready_with)), else 503; 503 once the pool is being drained or closed |
/// | `/status` | the [status](leadpool::Status) as JSON, [if that is wanted](Self::with_status) |
///
/// Let who asks for `/ready` bear with some refusals in a row (`failureThreshold` in Kubernetes), as
/// long as failovers take: requests wait meanwhile, and would find no instance at all.
///
/// ```no_run
/// use axum::Router;
/// use leadpool_axum::{Health, Readiness, leadpool::Pool};
///
/// # fn f(pool: Pool) {
/// let app: Router = Router::new()
///     .nest("/health", Health::new(pool).ready_with(Readiness::Reads).router());
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct Health<P = leadpool::Pool>(web::Health<P>);

impl<P: WebPool> Health<P> {
    /// The health of a service that needs this pool, ready while there is a writer.
    #[must_use]
    pub fn new(pool: P) -> Self {
        Self(web::Health::new(pool))
    }

    /// What the service needs to be ready.
    #[must_use]
    pub fn ready_with(self, readiness: Readiness) -> Self {
        Self(self.0.ready_with(readiness))
    }

    /// Adds `/status`. It names the hosts: let only those come there who may see that.
    #[must_use]
    pub fn with_status(self) -> Self {
        Self(self.0.with_status())
    }

    /// The routes, to nest.
    pub fn router<S: Clone + Send + Sync + 'static>(self) -> Router<S> {
        let health = self.0;
        let (live, ready) = (health.clone(), health.clone());
        let router = Router::new()
            .route("/live", get(move || async move { response(live.live()) }))
            .route(
                "/ready",
                get(move || async move { response(ready.ready()) }),
            );
        match health.shows_status() {
            true => router.route(
                "/status",
                get(move || async move { response(health.status()) }),
            ),
            false => router,
        }
    }
}
