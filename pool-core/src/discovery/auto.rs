//! The source that the connection string and the first connection suggest.

use std::{sync::OnceLock, time::Duration};

use super::{Discovering, Discovery, DiscoveryError, Fixed, Rds, Replicas, Repmgr, View, rds};
use crate::{
    config::{AwsEndpoint, EndpointKind},
    observe::rows,
    topology::HostAddr,
};

/// Whether repmgr's table is there, and can be read.
const REPMGR: &str = "\
SELECT coalesce(pg_catalog.has_schema_privilege(pg_catalog.to_regnamespace('repmgr')::pg_catalog.oid, 'USAGE') \
            AND pg_catalog.has_table_privilege(pg_catalog.to_regclass('repmgr.nodes')::pg_catalog.oid, 'SELECT'), false)";

/// Chooses the source by itself: what a pool does that is not told of any.
///
/// - A proxy of RDS, a limitless or a global endpoint: the connection string alone. A proxy does
///   the failover itself.
/// - Another endpoint of AWS: [`Rds`].
/// - Hosts of one's own, and [`allowed_hosts`](crate::config::ConfigBuilder::allowed_hosts) admits
///   others: what the first connection shows, [`Rds`], [`Repmgr`], else [`Replicas`].
/// - Hosts of one's own, and nobody else is admitted: the connection string alone ([`Fixed`]).
///
/// Patroni, pg_auto_failover and DNS are never chosen by themselves: nothing in PostgreSQL tells
/// of them.
///
/// ```no_run
/// # async fn f() -> Result<(), leadpool::Error> {
/// // The standbys are found.
/// let pool = leadpool::Pool::builder("postgres://app@10.0.0.1/shop")
///     .configure(|config| config.allowed_hosts("10.0.0.0/24"))
///     .build()
///     .await?;
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Default)]
#[non_exhaustive]
pub struct Auto {
    chosen: OnceLock<Box<dyn Discovery>>,
}

impl Auto {
    /// Nothing is chosen yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    async fn choose(&self, view: &View) -> Result<&dyn Discovery, DiscoveryError> {
        if let Some(chosen) = self.chosen.get() {
            return Ok(&**chosen);
        }
        let chosen: Box<dyn Discovery> = match by_name(view) {
            Some(chosen) => chosen,
            None => by_connection(view).await?,
        };
        tracing::event!(
            name: rows::SOURCE_CHOSEN.name,
            target: rows::SOURCE_CHOSEN.target,
            rows::SOURCE_CHOSEN.level,
            { leadpool.source = chosen.name() },
            "source of hosts chosen"
        );
        Ok(&**self.chosen.get_or_init(|| chosen))
    }
}

/// What the connection string suggests.
fn by_name(view: &View) -> Option<Box<dyn Discovery>> {
    if view.is_discovery_off() {
        return Some(Box::new(Fixed::new()));
    }
    let endpoints = view.seeds().iter();
    let mut kinds = endpoints
        .filter_map(|seed| AwsEndpoint::recognize(seed.name()))
        .map(|endpoint| endpoint.kind())
        .peekable();
    if kinds.peek().is_some() {
        let can_be_asked = kinds.all(|kind| {
            matches!(
                kind,
                EndpointKind::Cluster
                    | EndpointKind::ReaderCluster
                    | EndpointKind::Custom
                    | EndpointKind::Instance
            )
        });
        return Some(match can_be_asked {
            true => Box::new(Rds::new()),
            false => Box::new(Fixed::new()),
        });
    }
    if view.instance_pattern().is_some() {
        return Some(Box::new(Rds::new()));
    }
    (!view.admits_others()).then(|| Box::new(Fixed::new()) as _)
}

/// What the first connection suggests.
async fn by_connection(view: &View) -> Result<Box<dyn Discovery>, DiscoveryError> {
    let kind = view.ask_any(rds::KIND).await?;
    if rds::is_cluster(&kind) {
        return Ok(Box::new(Rds::new()));
    }
    let repmgr = view.ask(&kind.host, REPMGR).await?;
    let registered = repmgr.rows.iter().any(|row| row.get(0) == Some("t"));
    Ok(match registered {
        true => Box::new(Repmgr::new()),
        false => Box::new(Replicas::new()),
    })
}

impl Discovery for Auto {
    fn name(&self) -> &str {
        self.chosen.get().map_or("auto", |chosen| chosen.name())
    }

    fn discover<'a>(&'a self, view: &'a View) -> Discovering<'a> {
        Box::pin(async { self.choose(view).await?.discover(view).await })
    }

    fn refresh_interval(&self) -> Option<Duration> {
        match self.chosen.get() {
            Some(chosen) => chosen.refresh_interval(),
            None => Some(Duration::from_secs(1)),
        }
    }

    fn failover_interval(&self) -> Duration {
        match self.chosen.get() {
            Some(chosen) => chosen.failover_interval(),
            None => Duration::from_secs(1),
        }
    }

    fn vouches_for(&self, host: &HostAddr) -> bool {
        let chosen = self.chosen.get();
        chosen.is_some_and(|chosen| chosen.vouches_for(host))
    }
}
