//! What a source of hosts says.

use std::sync::Arc;

use super::HostAddr;

/// What a source of hosts found: hints. Whoever is named gets probed; only the host's own answer
/// makes it a primary, a standby, or a member of the cluster at all.
///
/// ```
/// use leadpool::HostAddr;
/// use leadpool::discovery::{Found, FoundHost};
///
/// let db1 = HostAddr::new("db1", 5432);
/// let found = Found::new([FoundHost::new(db1.clone())]).with_primary(db1);
/// assert_eq!(found.hosts.len(), 1);
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Found {
    /// All hosts of the cluster that the source knows, best first.
    pub hosts: Vec<FoundHost>,
    /// Which of them the source takes for the primary. It is looked at, at once.
    pub primary: Option<HostAddr>,
}

impl Found {
    /// These hosts, and no word on their roles.
    pub fn new(hosts: impl IntoIterator<Item = FoundHost>) -> Self {
        Self {
            hosts: hosts.into_iter().collect(),
            primary: None,
        }
    }

    /// Says which host the source takes for the primary.
    #[must_use]
    pub fn with_primary(mut self, primary: HostAddr) -> Self {
        self.primary = Some(primary);
        self
    }

    /// Whether the source names this host.
    #[must_use]
    pub fn names(&self, host: &HostAddr) -> bool {
        self.hosts.iter().any(|found| found.addr == *host)
    }
}

impl FromIterator<HostAddr> for Found {
    fn from_iter<I: IntoIterator<Item = HostAddr>>(hosts: I) -> Self {
        Self::new(hosts.into_iter().map(FoundHost::new))
    }
}

/// One host that a source found.
///
/// ```
/// use leadpool::HostAddr;
/// use leadpool::discovery::FoundHost;
///
/// let host = FoundHost::new(HostAddr::new("db2", 5432)).with_zone("eu-west-1b").with_weight(3);
/// assert_eq!(host.weight, Some(3));
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct FoundHost {
    /// Its address.
    pub addr: HostAddr,
    /// The availability zone that it is in, if the source says.
    pub zone: Option<Arc<str>>,
    /// Its share of the reads, for strategies that look at it: see
    /// [`HostView::weight`](super::HostView::weight). `None`: 1.
    pub weight: Option<u32>,
}

impl FoundHost {
    /// A host of which only the address is known.
    #[must_use]
    pub fn new(addr: HostAddr) -> Self {
        Self {
            addr,
            zone: None,
            weight: None,
        }
    }

    /// Says which availability zone it is in.
    #[must_use]
    pub fn with_zone(mut self, zone: impl AsRef<str>) -> Self {
        self.zone = Some(zone.as_ref().into());
        self
    }

    /// Says which share of the reads it gets; 0: none.
    #[must_use]
    pub fn with_weight(mut self, weight: u32) -> Self {
        self.weight = Some(weight);
        self
    }
}
