//! Routes for who asks whether the service is well.

use actix_web::{
    Route, Scope, guard,
    web::{self as actix, scope},
};
use leadpool::web::{self, Answer, Readiness, WebPool};

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
/// use actix_web::App;
/// use leadpool_actix::{Health, Readiness, leadpool::Pool};
///
/// # fn f(pool: Pool) {
/// let health = Health::new(pool).ready_with(Readiness::Reads);
/// let app = App::new().service(health.service("/health"));
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

    /// The routes, below this path.
    pub fn service(self, path: &str) -> Scope {
        let health = self.0;
        let (live, ready) = (health.clone(), health.clone());
        let scope = scope(path)
            .route("/live", route(move || live.live()))
            .route("/ready", route(move || ready.ready()));
        match health.shows_status() {
            true => scope.route("/status", route(move || health.status())),
            false => scope,
        }
    }
}

fn route(answer: impl Fn() -> Answer + Clone + 'static) -> Route {
    let reads = guard::Any(guard::Get()).or(guard::Head());
    actix::route().guard(reads).to(move || {
        let answer = response(answer());
        async move { answer }
    })
}
