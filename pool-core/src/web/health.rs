//! Whether a service lives, and whether it is ready.

use serde_json::json;

use super::{Answer, Problem, WebPool};
use crate::{routing::Usable, topology::Target};

/// What a service needs to be ready.
///
/// ```
/// assert_eq!(leadpool::web::Readiness::default(), leadpool::web::Readiness::Writer);
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Readiness {
    /// A host on which can be written.
    #[default]
    Writer,
    /// A host on which can be read: for what reads only, or can do without writing for a while.
    Reads,
}

/// Answers who asks for the health of a service.
///
/// Nothing is asked of a server for it: the answers are what the monitor knows.
///
/// ```no_run
/// # fn f(pool: leadpool::Pool) {
/// use leadpool::web::{Health, Readiness};
///
/// let health = Health::new(pool).ready_with(Readiness::Reads);
/// assert_eq!(health.live().status(), 200);
/// println!("{}", health.ready().status()); // 200 or 503
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct Health<P> {
    pool: P,
    readiness: Readiness,
    shows_status: bool,
}

impl<P: WebPool> Health<P> {
    /// The health of a service that needs this pool, ready while there is a writer.
    #[must_use]
    pub fn new(pool: P) -> Self {
        Self {
            pool,
            readiness: Readiness::default(),
            shows_status: false,
        }
    }

    /// What it needs to be ready.
    #[must_use]
    pub fn ready_with(mut self, readiness: Readiness) -> Self {
        self.readiness = readiness;
        self
    }

    /// Shows the [status](crate::Status) too. It names the hosts: let only those see it who may.
    #[must_use]
    pub fn with_status(mut self) -> Self {
        self.shows_status = true;
        self
    }

    /// Whether the status is to be shown.
    #[must_use]
    pub fn shows_status(&self) -> bool {
        self.shows_status
    }

    /// Whether the process should live on: 200, whatever becomes of the database. A restart cures
    /// nothing there.
    #[must_use]
    pub fn live(&self) -> Answer {
        Answer::json(200, &json!({ "live": true }))
    }

    /// Whether requests should come here: 200, or 503 while there is no host as
    /// [needed](Self::ready_with), and once the pool is being closed.
    ///
    /// A pause does not count, for requests wait then. Who asks should bear with a few refusals in
    /// a row (`failureThreshold` in Kubernetes) as long as failovers take: requests wait then too,
    /// and would find no instance at all.
    #[must_use]
    pub fn ready(&self) -> Answer {
        let target = match self.readiness {
            Readiness::Writer => Target::Primary,
            Readiness::Reads => Target::Any,
        };
        let cluster = self.pool.cluster();
        let is_usable = Usable::of(&cluster.glance()).route(target).is_some();
        if is_usable && !self.pool.status().closed {
            Answer::json(200, &json!({ "ready": true }))
        } else {
            Problem::unavailable().answer()
        }
    }

    /// The [status](crate::Status) as JSON.
    #[must_use]
    pub fn status(&self) -> Answer {
        match serde_json::to_value(self.pool.status()) {
            Ok(status) => Answer::json(200, &status),
            Err(_) => Problem::internal().answer(),
        }
    }
}
