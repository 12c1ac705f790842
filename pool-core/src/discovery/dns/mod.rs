//! Hosts from DNS.
//!
//! [`Dns`] asks for a name's addresses, or for its SRV records, and names what it finds as hosts.
//! It asks anew each time, so a change is seen with the next question, however long its TTL.
//!
//! ```no_run
//! # async fn f() -> Result<(), Box<dyn std::error::Error>> {
//! use leadpool::{Pool, discovery::dns::Dns};
//!
//! // All addresses of pg.example.com, each a host on port 5432.
//! let dns = Dns::a("pg.example.com.", 5432)?;
//! let pool = Pool::builder("postgres://app@/shop")
//!     .discovery(dns)
//!     .build()
//!     .await?;
//! # Ok(())
//! # }
//! ```
//!
//! The feature `dns` needs Rust 1.88, for the sake of `hickory-resolver`.
//!
//! # What it never does
//!
//! - **It makes nobody a primary.** Only a host's own answer to a probe does; a record `primary.`,
//!   or a low SRV priority, is no such answer. DNS is late in every failover.
//! - It keeps no answer for the next question.
//! - It takes no half answer: if the question for A is answered and that for AAAA is not, it has
//!   failed, and the hosts stay as they are. Otherwise hosts would seem to have left. The same
//!   holds for an answer without records.
//!
//! # Addresses or services
//!
//! | | [`Dns::a`] | [`Dns::srv`] |
//! |---|---|---|
//! | asks for | A and AAAA | SRV |
//! | a host is | an address, and the port given | the target's name, and its port |
//! | a host that moves to another address | is another host | stays the same host |
//! | order | by number, since DNS shuffles | priority, lowest first; then weight, highest first |
//! | weight of readers | all equal | the record's, if any is not 0; 0 beside others counts as 1 |
//! | TLS with `verify-full` | certificates must hold the addresses | certificates hold the names |
//!
//! A server with an address of both kinds is found twice by [`Dns::a`]. That does no harm to the
//! writer, but readers use it twice as much: say [`ipv4_only`](Dns::ipv4_only) or
//! [`ipv6_only`](Dns::ipv6_only). Of SRV targets the driver resolves the names, at each connect.
//!
//! # Names
//!
//! A name that ends with a dot is complete. Others go through the search list of
//! `/etc/resolv.conf`, as everywhere; the first name that has records counts, and a name server
//! that fails ends the search. The hosts file is read too. With [`name_server`](Dns::name_server)
//! none of this is used, and every name is complete. `nsswitch.conf` and mDNS are not known here.
//!
//! # What is refused
//!
//! Loopback and link-local addresses, unless [`allow_local`](Dns::allow_local) is said: a name
//! server that lies must not have passwords sent to what listens on this machine or link.
//! Multicast, broadcast and unspecified addresses, and SRV targets that lead nowhere, always. Over
//! 100 records. One such record makes the whole answer fail, with an error that names it.
//!
//! # Who gets credentials
//!
//! The addresses of the name that was asked are vouched for, and the targets of SRV records below
//! its domain: `pg-0.pg.example.com` for `_postgresql._tcp.pg.example.com.`. Other targets need
//! [`allowed_hosts`](crate::config::ConfigBuilder::allowed_hosts).
//!
//! # Kubernetes
//!
//! What is needed is the *pods*, so a headless service (`clusterIP: None`) that selects all of
//! them, standbys included:
//!
//! ```
//! use leadpool::discovery::dns::Dns;
//!
//! // All pods of a headless service.
//! let pods = Dns::a("pg.prod.svc.cluster.local.", 5432)?;
//! // The same by name: pg-0.pg.prod.svc.cluster.local and so on, for pods of a StatefulSet.
//! // `postgresql` is the name of the port in the service.
//! let named = Dns::srv("_postgresql._tcp.pg.prod.svc.cluster.local.")?;
//! # Ok::<(), leadpool::discovery::dns::DnsError>(())
//! ```
//!
//! A service publishes pods that are ready, unless it has `publishNotReadyAddresses: true`. A
//! standby that starts again leaves the hosts until it is ready; that is as it should be.
//!
//! Write the last dot. Without it, `ndots:5` in a pod's resolv.conf makes several questions of
//! each.
//!
//! **CloudNativePG** makes the services `pg-rw` (the primary), `pg-ro` (the standbys) and `pg-r`
//! (all). They are no headless ones: each has one address of its own, and what stands behind it
//! changes, so it names no host. `pg-rw` alone can serve as a host that is always the writer, with
//! the failover that Kubernetes makes of it; behind `pg-r` and `pg-ro` every connection may find
//! another server, and probes are answered by any: don't use them. Make a headless service
//! beside them:
//!
//! ```yaml
//! apiVersion: v1
//! kind: Service
//! metadata: { name: pg-pods }
//! spec:
//!   clusterIP: None
//!   selector: { cnpg.io/cluster: pg, cnpg.io/podRole: instance }
//!   ports: [{ name: postgresql, port: 5432 }]
//! ```

mod error;
mod question;
mod records;

use std::{
    net::{IpAddr, SocketAddr},
    time::Duration,
};

pub use error::DnsError;
use hickory_resolver::proto::rr::RecordType;

use self::question::Question;
use super::{Discovering, Discovery, Found, View};
use crate::{error::BoxError, topology::HostAddr};

/// Keeps any setting within what clocks can say.
const LONGEST_TIMEOUT: Duration = Duration::from_secs(3600);

/// The longest name that DNS can carry.
const LONGEST_NAME: usize = 253;

/// The hosts that DNS names.
///
/// See the [page on DNS](self) for what it does and never does.
///
/// ```
/// use std::time::Duration;
///
/// use leadpool::discovery::dns::Dns;
///
/// let dns = Dns::srv("_postgresql._tcp.pg.example.com.")?
///     .name_server(([10, 0, 0, 53], 53).into())
///     .timeout(Duration::from_secs(1))
///     .refresh_interval(Duration::from_secs(5));
/// # Ok::<(), leadpool::discovery::dns::DnsError>(())
/// ```
#[derive(Clone, Debug)]
pub struct Dns {
    name: String,
    kind: Kind,
    name_servers: Vec<SocketAddr>,
    allow_local: bool,
    timeout: Duration,
    refresh_interval: Duration,
    failover_interval: Duration,
}

#[derive(Clone, Copy, Debug)]
enum Kind {
    /// Addresses of these families, on this port.
    Addresses {
        families: &'static [RecordType],
        port: u16,
    },
    Services,
}

impl Dns {
    /// Each address of this name, IPv4 and IPv6, is a host on this port.
    ///
    /// # Errors
    ///
    /// [`DnsError::Name`] when the name is none, or is an address, which belongs into the
    /// connection string; [`DnsError::Port`] when the port is 0.
    pub fn a(name: impl Into<String>, port: u16) -> Result<Self, DnsError> {
        let name = name.into();
        let bare = name.trim_start_matches('[').trim_end_matches(']');
        if bare.parse::<IpAddr>().is_ok() {
            let problem = "is an address: there is nothing to look up; name it as a host in the \
                           connection string";
            return Err(DnsError::Name { name, problem });
        }
        if port == 0 {
            return Err(DnsError::Port { name });
        }
        let families = &[RecordType::A, RecordType::AAAA];
        Self::new(name, Kind::Addresses { families, port })
    }

    /// Each target of this name's SRV records is a host:
    /// `_postgresql._tcp.pg.example.com.`
    ///
    /// # Errors
    ///
    /// [`DnsError::Name`] when the name is not `_service._protocol.name`.
    pub fn srv(name: impl Into<String>) -> Result<Self, DnsError> {
        let name = name.into();
        let mut labels = name.split('.');
        let mut is_label = || labels.next().is_some_and(|label| label.starts_with('_'));
        if !(is_label() && is_label()) {
            let problem = "SRV records have names like _postgresql._tcp.pg.example.com";
            return Err(DnsError::Name { name, problem });
        }
        Self::new(name, Kind::Services)
    }

    fn new(name: String, kind: Kind) -> Result<Self, DnsError> {
        let labels = name.strip_suffix('.').unwrap_or(&name);
        let is_label = |label: &str| (1..=63).contains(&label.len());
        let problem = if labels.is_empty() {
            "is empty"
        } else if !labels.chars().all(records::is_host_char) {
            "holds a sign that host names don't have; of a name in another script, write the \
             form that begins with xn--"
        } else if labels.len() > LONGEST_NAME || !labels.split('.').all(is_label) {
            "is not a DNS name: up to 253 bytes, and 1 to 63 between two dots"
        } else {
            return Ok(Self {
                name,
                kind,
                name_servers: Vec::new(),
                allow_local: false,
                timeout: Duration::from_secs(2),
                refresh_interval: Duration::from_secs(10),
                failover_interval: Duration::from_millis(500),
            });
        };
        Err(DnsError::Name { name, problem })
    }

    /// Asks this name server, and those of further calls, in place of the system's: for a
    /// split-horizon DNS, or a test. It is asked by UDP, and by TCP if an answer is too long.
    #[must_use]
    pub fn name_server(mut self, addr: SocketAddr) -> Self {
        self.name_servers.push(addr);
        self
    }

    /// Asks for A records only.
    #[must_use]
    pub fn ipv4_only(self) -> Self {
        self.families(&[RecordType::A])
    }

    /// Asks for AAAA records only.
    #[must_use]
    pub fn ipv6_only(self) -> Self {
        self.families(&[RecordType::AAAA])
    }

    fn families(mut self, of: &'static [RecordType]) -> Self {
        if let Kind::Addresses { families, .. } = &mut self.kind {
            *families = of;
        }
        self
    }

    /// Takes loopback and link-local addresses too, and targets called `localhost`.
    #[must_use]
    pub fn allow_local(mut self) -> Self {
        self.allow_local = true;
        self
    }

    /// How long one question may take, with all its repetitions, name servers and names of the
    /// search list; at most an hour. Default: 2 s.
    ///
    /// A third of it is waited for a name server; two are asked at once.
    #[must_use]
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// How often to ask while all is well. Default: 10 s.
    #[must_use]
    pub fn refresh_interval(mut self, interval: Duration) -> Self {
        self.refresh_interval = interval;
        self
    }

    /// How often to ask while a writer is missing. Default: 500 ms.
    #[must_use]
    pub fn failover_interval(mut self, interval: Duration) -> Self {
        self.failover_interval = interval;
        self
    }

    /// Asks now.
    ///
    /// # Errors
    ///
    /// [`DnsError`], also when there are no records. It names the name, and the record that is to
    /// blame.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future ends the questions; nothing else is lost.
    pub async fn ask(&self) -> Result<Found, DnsError> {
        let within = self.timeout.min(LONGEST_TIMEOUT);
        let answer = tokio::time::timeout(within, self.ask_in_own_time(within)).await;
        answer.unwrap_or_else(|_| {
            Err(DnsError::Silent {
                name: self.name.clone(),
                within,
            })
        })
    }

    async fn ask_in_own_time(&self, timeout: Duration) -> Result<Found, DnsError> {
        let question = Question {
            name: &self.name,
            name_servers: &self.name_servers,
            timeout,
        };
        match self.kind {
            Kind::Addresses { families, port } => {
                let addresses = question.addresses(families).await?;
                records::from_addresses(&self.name, addresses, port, self.allow_local)
            }
            Kind::Services => {
                let services = question.services().await?;
                records::from_services(&self.name, services, self.allow_local)
            }
        }
    }
}

impl Discovery for Dns {
    fn name(&self) -> &str {
        "dns"
    }

    fn discover<'a>(&'a self, _: &'a View) -> Discovering<'a> {
        Box::pin(async { self.ask().await.map_err(BoxError::from) })
    }

    fn refresh_interval(&self) -> Option<Duration> {
        Some(self.refresh_interval)
    }

    fn failover_interval(&self) -> Duration {
        self.failover_interval
    }

    /// The addresses of a name are that name. The target of an SRV record may be called anything,
    /// so it is vouched for only below the domain that was asked.
    fn vouches_for(&self, host: &HostAddr) -> bool {
        match self.kind {
            Kind::Addresses { port, .. } => {
                host.port() == port && host.name().parse::<IpAddr>().is_ok()
            }
            Kind::Services => {
                let domain = self.name.trim_end_matches('.').to_ascii_lowercase();
                let domain = domain.splitn(3, '.').nth(2).unwrap_or_default();
                let below = host.name().strip_suffix(domain);
                !domain.is_empty()
                    && below.is_some_and(|below| below.is_empty() || below.ends_with('.'))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_it_vouches_for() {
        let addresses = Dns::a("pg.example.com.", 5432).unwrap();
        let services = Dns::srv("_postgresql._tcp.PG.example.com.").unwrap();
        for (source, host, port, vouched) in [
            (&addresses, "10.0.0.1", 5432, true),
            (&addresses, "fd00::1", 5432, true),
            (&addresses, "10.0.0.1", 5433, false),
            (&addresses, "pg.example.com", 5432, false),
            (&services, "pg-0.pg.example.com", 7, true),
            (&services, "pg.example.com", 7, true),
            (&services, "evil-pg.example.com", 7, false),
            (&services, "pg.example.com.evil.org", 7, false),
            (&services, "10.0.0.1", 7, false),
        ] {
            let host = HostAddr::new(host, port);
            assert_eq!(source.vouches_for(&host), vouched, "{host}");
        }
    }
}
