//! The hosts that repmgr has registered.

use super::{Discovering, Discovery, DiscoveryError, Found, FoundHost, Reply, View};
use crate::{config::hosts_of_conninfo, topology::HostAddr};

/// [repmgr's metadata](https://www.repmgr.org/docs/current/repmgr-administration-manual.html): the
/// table is replicated, so a standby's copy may be as old as its data.
const SQL: &str = "\
SELECT type, conninfo, location, node_name \
  FROM repmgr.nodes \
 WHERE active AND type OPERATOR(pg_catalog.=) ANY ('{primary,standby}') \
 ORDER BY node_id";

/// The active hosts in `repmgr.nodes`. Its `location` is taken for the availability zone.
///
/// The pool must be connected to the database that repmgr uses, and its user needs `USAGE` on the
/// schema `repmgr` and `SELECT` on `repmgr.nodes`. What the table's `conninfo` says besides host
/// and port is not looked at.
///
/// ```no_run
/// # async fn f() -> Result<(), leadpool::Error> {
/// use leadpool::{Pool, discovery::Repmgr};
///
/// let pool = Pool::builder("postgres://app@db1.example.com/shop")
///     .configure(|config| config.allowed_hosts("*.example.com"))
///     .discovery(Repmgr::new())
///     .build()
///     .await?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Copy, Debug, Default)]
#[non_exhaustive]
pub struct Repmgr {}

impl Repmgr {
    /// Reads `repmgr.nodes` on the hosts of the cluster.
    #[must_use]
    pub fn new() -> Self {
        Self {}
    }
}

impl Discovery for Repmgr {
    fn name(&self) -> &str {
        "repmgr"
    }

    fn discover<'a>(&'a self, view: &'a View) -> Discovering<'a> {
        Box::pin(async {
            let reply = view.ask_any(SQL).await.map_err(DiscoveryError::from)?;
            Ok(read(&reply)?)
        })
    }
}

fn read(reply: &Reply) -> Result<Found, DiscoveryError> {
    let mut found = Found::default();
    for row in &reply.rows {
        let name = row.get(3).unwrap_or_default();
        let host = host(row.get(1).unwrap_or_default()).map_err(|problem| {
            let problem = format!("the conninfo of {name} in repmgr.nodes: {problem}");
            DiscoveryError::nonsense(reply.host.clone(), problem)
        })?;
        if row.get(0) == Some("primary") {
            found.primary = Some(host.clone());
        }
        let mut host = FoundHost::new(host);
        // What repmgr registers when nobody says otherwise.
        if let Some(location) = row.get(2).filter(|location| *location != "default") {
            host = host.with_zone(location);
        }
        found.hosts.push(host);
    }
    Ok(found)
}

fn host(conninfo: &str) -> Result<HostAddr, String> {
    let hosts = hosts_of_conninfo(conninfo).map_err(|error| error.to_string())?;
    let mut hosts = hosts.into_iter();
    match (hosts.next(), hosts.next()) {
        (Some(host), None) => Ok(host),
        (None, _) => Err("it names no host".to_owned()),
        (Some(_), Some(_)) => Err("it names several hosts".to_owned()),
    }
}
