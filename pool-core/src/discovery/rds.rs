//! Aurora PostgreSQL and RDS Multi-AZ DB clusters.

use std::{
    fmt,
    sync::{Mutex, OnceLock, PoisonError},
    time::Duration,
};

use super::{Discovering, Discovery, DiscoveryError, Found, FoundHost, Reply, View};
use crate::{
    config::{AwsEndpoint, EndpointKind, InstancePattern},
    topology::HostAddr,
};

/// Which of the two it is, by the functions that are there.
pub(super) const KIND: &str = "\
SELECT pg_catalog.to_regprocedure('pg_catalog.aurora_replica_status()') IS NOT NULL, \
       pg_catalog.to_regprocedure('rds_tools.show_topology(text)') IS NOT NULL";

/// [Aurora's functions][aurora]. A row that is older than five minutes is of an instance that is
/// gone, unless it is the writer's.
///
/// [aurora]: https://docs.aws.amazon.com/AmazonRDS/latest/AuroraUserGuide/aurora_replica_status.html
const AURORA: &str = "\
SELECT server_id::pg_catalog.text, session_id::pg_catalog.text OPERATOR(pg_catalog.=) 'MASTER_SESSION_ID' \
  FROM pg_catalog.aurora_replica_status() \
 WHERE session_id::pg_catalog.text OPERATOR(pg_catalog.=) 'MASTER_SESSION_ID' \
    OR EXTRACT(epoch FROM (pg_catalog.now() OPERATOR(pg_catalog.-) last_update_timestamp)) OPERATOR(pg_catalog.<=) 300 \
    OR last_update_timestamp IS NULL \
 ORDER BY 2 DESC, last_update_timestamp DESC NULLS LAST, 1";

/// The functions of the extension `rds_tools`. The source is the writer, also by the word of the
/// writer itself.
const MULTI_AZ: &str = "\
SELECT topology.endpoint::pg_catalog.text, topology.port::pg_catalog.text, \
       topology.id::pg_catalog.text OPERATOR(pg_catalog.=) rds_tools.multi_az_db_cluster_source_dbi_resource_id()::pg_catalog.text \
  FROM rds_tools.show_topology('leadpool') AS topology";

/// The hosts of an Aurora PostgreSQL cluster or an RDS Multi-AZ DB cluster, by their own functions
/// (`aurora_replica_status`, `rds_tools.show_topology`).
///
/// It is chosen by itself for a connection string that names an endpoint of such a cluster. The
/// names of the instances follow from that endpoint; behind a domain of one's own,
/// [`instance_pattern`](Self::instance_pattern) gives them. Without these functions the host is a
/// single instance, and is all there is.
///
/// ```no_run
/// # async fn f() -> Result<(), Box<dyn std::error::Error>> {
/// use leadpool::{Pool, discovery::Rds};
///
/// // Nothing to say: the endpoint tells.
/// let pool = Pool::connect("postgres://app@shop.cluster-c0ffee.eu-west-1.rds.amazonaws.com/shop").await?;
///
/// // A domain of one's own.
/// let pool = Pool::builder("postgres://app@db.example.com/shop")
///     .discovery(Rds::new().instance_pattern("?.db.example.com".parse()?))
///     .build()
///     .await?;
/// # Ok(())
/// # }
/// ```
pub struct Rds {
    pattern: Option<InstancePattern>,
    host_of: Option<Box<HostOf>>,
    kind: OnceLock<Kind>,
    /// The hosts that follow from a pattern of the configuration.
    vouched: Mutex<Vec<HostAddr>>,
}

type HostOf = dyn Fn(&str) -> Option<HostAddr> + Send + Sync;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Aurora,
    MultiAz,
    Single,
}

impl Rds {
    /// The names of the instances follow from the endpoint in the connection string.
    #[must_use]
    pub fn new() -> Self {
        Self {
            pattern: None,
            host_of: None,
            kind: OnceLock::new(),
            vouched: Mutex::default(),
        }
    }

    /// How the name of an instance follows from its identifier, where the connection string names
    /// an IP address or a domain of one's own: the AWS drivers' `HostPattern`.
    #[must_use]
    pub fn instance_pattern(mut self, pattern: InstancePattern) -> Self {
        self.pattern = Some(pattern);
        self
    }

    /// Says where the instance of an identifier listens, where no pattern can. `None`: it gets no
    /// connections.
    #[must_use]
    pub fn host_of(
        mut self,
        host_of: impl Fn(&str) -> Option<HostAddr> + Send + Sync + 'static,
    ) -> Self {
        self.host_of = Some(Box::new(host_of));
        self
    }

    async fn ask(&self, view: &View) -> Result<Found, DiscoveryError> {
        let kind = match self.kind.get() {
            Some(kind) => *kind,
            None => {
                let kind = kind_of(&view.ask_any(KIND).await?);
                *self.kind.get_or_init(|| kind)
            }
        };
        match kind {
            Kind::Aurora => self.aurora(view, &view.ask_any(AURORA).await?),
            Kind::MultiAz => self.multi_az(view, &view.ask_any(MULTI_AZ).await?),
            Kind::Single => Ok(view.seeds().iter().cloned().collect()),
        }
    }

    fn aurora(&self, view: &View, reply: &Reply) -> Result<Found, DiscoveryError> {
        let mut found = Found::default();
        for row in &reply.rows {
            let id = row.get(0).unwrap_or_default();
            let Some(host) = self.host(view, id, reply)? else {
                continue;
            };
            // The writers come first, and of two the one that was heard of last.
            if row.get(1) == Some("t") && found.primary.is_none() {
                found.primary = Some(host.clone());
            }
            if !found.names(&host) {
                found.hosts.push(FoundHost::new(host));
            }
        }
        if !reply.rows.iter().any(|row| row.get(1) == Some("t")) {
            return Err(DiscoveryError::nonsense(
                reply.host.clone(),
                "aurora_replica_status() names no writer",
            ));
        }
        self.vouch(&found);
        Ok(found)
    }

    /// Where an instance listens.
    fn host(
        &self,
        view: &View,
        id: &str,
        reply: &Reply,
    ) -> Result<Option<HostAddr>, DiscoveryError> {
        if let Some(host_of) = &self.host_of {
            return Ok(host_of(id));
        }
        let by_endpoint = || {
            let seeds = view.seeds().iter();
            seeds
                .filter_map(|seed| AwsEndpoint::recognize(seed.name())?.instance_pattern())
                .find_map(|pattern| InstancePattern::parse(&pattern).ok())
        };
        let pattern = self
            .pattern
            .clone()
            .or_else(|| view.instance_pattern().cloned())
            .or_else(by_endpoint);
        let Some(pattern) = pattern else {
            return Err(DiscoveryError::setup(
                "this is an Aurora cluster behind a name that is none of AWS's: set \
                 `instance_pattern`, for instance to `?.my-domain.com`",
            ));
        };
        let (name, port) = pattern
            .host(id)
            .map_err(|error| DiscoveryError::nonsense(reply.host.clone(), error.to_string()))?;
        Ok(Some(HostAddr::new(
            name,
            port.unwrap_or_else(|| reply.host.port()),
        )))
    }

    fn multi_az(&self, view: &View, reply: &Reply) -> Result<Found, DiscoveryError> {
        let mut found = Found::default();
        let mut vouched = Found::default();
        for row in &reply.rows {
            let nonsense = |problem| DiscoveryError::nonsense(reply.host.clone(), problem);
            let name = row.get(0).unwrap_or_default();
            if name.is_empty() {
                return Err(nonsense(
                    "rds_tools.show_topology() names an instance without endpoint",
                ));
            }
            let port = row.get(1).and_then(|port| port.parse().ok());
            let port = port.filter(|port: &u16| *port != 0).ok_or_else(|| {
                nonsense("rds_tools.show_topology() names an instance without port")
            })?;
            let host = HostAddr::new(name, port);
            if row.get(2) == Some("t") {
                found.primary = Some(host.clone());
            }
            if is_beside(view, &host) {
                vouched.hosts.push(FoundHost::new(host.clone()));
            }
            found.hosts.push(FoundHost::new(host));
        }
        self.vouch(&vouched);
        Ok(found)
    }

    fn vouch(&self, found: &Found) {
        let hosts = found.hosts.iter().map(|host| host.addr.clone()).collect();
        *self.vouched.lock().unwrap_or_else(PoisonError::into_inner) = hosts;
    }
}

/// Whether a host is an instance in the account and region of an endpoint of the configuration.
fn is_beside(view: &View, host: &HostAddr) -> bool {
    let Some(instance) = AwsEndpoint::recognize(host.name()) else {
        return false;
    };
    instance.kind() == EndpointKind::Instance
        && view.seeds().iter().any(|seed| {
            AwsEndpoint::recognize(seed.name()).is_some_and(|seed| {
                seed.instance_pattern().is_some()
                    && seed.instance_pattern() == instance.instance_pattern()
            })
        })
}

fn kind_of(reply: &Reply) -> Kind {
    let says = |column| {
        let mut rows = reply.rows.iter();
        rows.any(|row| row.get(column) == Some("t"))
    };
    match (says(0), says(1)) {
        (true, _) => Kind::Aurora,
        (false, true) => Kind::MultiAz,
        (false, false) => Kind::Single,
    }
}

/// Whether the host that answered [`KIND`] is of a cluster that this source knows.
pub(super) fn is_cluster(reply: &Reply) -> bool {
    kind_of(reply) != Kind::Single
}

impl Discovery for Rds {
    fn name(&self) -> &str {
        match self.kind.get() {
            Some(Kind::Aurora) => "Aurora",
            Some(Kind::MultiAz) => "RDS Multi-AZ",
            Some(Kind::Single) | None => "RDS",
        }
    }

    fn discover<'a>(&'a self, view: &'a View) -> Discovering<'a> {
        Box::pin(async { Ok(self.ask(view).await?) })
    }

    fn refresh_interval(&self) -> Option<Duration> {
        match self.kind.get() {
            Some(Kind::Single) => None,
            Some(Kind::Aurora | Kind::MultiAz) | None => Some(Duration::from_secs(30)),
        }
    }

    fn vouches_for(&self, host: &HostAddr) -> bool {
        let vouched = self.vouched.lock().unwrap_or_else(PoisonError::into_inner);
        vouched.contains(host)
    }
}

impl Default for Rds {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for Rds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Rds")
            .field("pattern", &self.pattern)
            .field("kind", &self.kind)
            .finish_non_exhaustive()
    }
}
