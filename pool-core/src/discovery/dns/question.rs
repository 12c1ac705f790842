//! Asking the name servers, anew each time.

use std::{
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use futures_util::future::try_join_all;
use hickory_resolver::{
    TokioResolver,
    config::{NameServerConfig, ResolveHosts, ResolverConfig, ResolverOpts},
    net::{DnsError as Refusal, NetError, runtime::TokioRuntimeProvider},
    proto::{
        op::ResponseCode,
        rr::{Name, RData, RecordType},
    },
    system_conf::read_system_conf,
};

use super::{DnsError, records::Service};
use crate::error::BoxError;

/// Into how many parts the time is cut. In each, the resolver asks two name servers, those first
/// that have not been silent.
const TRIES: u32 = 3;

/// What name servers to ask, and for which name.
pub(super) struct Question<'a> {
    /// As the application gives it.
    pub(super) name: &'a str,
    /// In place of the system's.
    pub(super) name_servers: &'a [SocketAddr],
    pub(super) timeout: Duration,
}

/// A resolver that was made for one question. Nothing is kept for the next: no record is older
/// than the question, and a change of /etc/resolv.conf counts at once.
struct Fresh {
    resolver: TokioResolver,
    /// The full names that are meant, in order.
    names: Vec<Name>,
}

/// What a name has.
enum Answer<T> {
    Some(Vec<T>),
    /// The name exists, without such records.
    NoRecords,
    NoSuchName,
}

impl Question<'_> {
    /// Asks for these kinds of addresses. All are answered, or it fails: half of an answer would
    /// look like hosts that have left.
    pub(super) async fn addresses(&self, kinds: &[RecordType]) -> Result<Vec<IpAddr>, DnsError> {
        let kind = match kinds {
            [RecordType::A] => "A record",
            [RecordType::AAAA] => "AAAA record",
            _ => "A or AAAA record",
        };
        self.first(kind, kinds, |data| match data {
            RData::A(addr) => Some(IpAddr::V4(addr.0)),
            RData::AAAA(addr) => Some(IpAddr::V6(addr.0)),
            _ => None,
        })
        .await
    }

    /// Asks for SRV records.
    pub(super) async fn services(&self) -> Result<Vec<Service>, DnsError> {
        self.first("SRV record", &[RecordType::SRV], |data| match data {
            RData::SRV(record) => Some(Service {
                priority: record.priority,
                weight: record.weight,
                port: record.port,
                target: record.target.to_ascii(),
            }),
            _ => None,
        })
        .await
    }

    /// The records of the first name that has any.
    async fn first<T>(
        &self,
        kind: &'static str,
        kinds: &[RecordType],
        read: impl Fn(&RData) -> Option<T> + Copy,
    ) -> Result<Vec<T>, DnsError> {
        let fresh = self.prepare().await?;
        let mut exists = false;
        for name in &fresh.names {
            let answers = kinds.iter().map(|kind| self.ask(&fresh, name, *kind, read));
            let mut records = Vec::new();
            for answer in try_join_all(answers).await? {
                match answer {
                    Answer::Some(some) => records.extend(some),
                    Answer::NoRecords => exists = true,
                    Answer::NoSuchName => {}
                }
            }
            if !records.is_empty() {
                return Ok(records);
            }
        }
        let asked: Vec<String> = fresh.names.iter().map(Name::to_ascii).collect();
        let (name, asked) = (self.name.to_owned(), asked.join(", "));
        Err(match exists {
            true => DnsError::NoRecords { name, kind, asked },
            false => DnsError::NoSuchName { name, asked },
        })
    }

    async fn ask<T>(
        &self,
        fresh: &Fresh,
        name: &Name,
        kind: RecordType,
        read: impl Fn(&RData) -> Option<T>,
    ) -> Result<Answer<T>, DnsError> {
        let source = match fresh.resolver.lookup(name.clone(), kind).await {
            Ok(lookup) => {
                let records = lookup.answers().iter();
                let records: Vec<T> = records.filter_map(|record| read(&record.data)).collect();
                return Ok(match records.is_empty() {
                    true => Answer::NoRecords,
                    false => Answer::Some(records),
                });
            }
            Err(source) => source,
        };
        if let NetError::Dns(Refusal::NoRecordsFound(nothing)) = &source {
            match nothing.response_code {
                ResponseCode::NoError => return Ok(Answer::NoRecords),
                ResponseCode::NXDomain => return Ok(Answer::NoSuchName),
                _ => {}
            }
        }
        Err(DnsError::Failed {
            name: self.name.to_owned(),
            kind: kind.into(),
            asked: name.to_ascii(),
            source: source.into(),
        })
    }

    async fn prepare(&self) -> Result<Fresh, DnsError> {
        let name = Name::from_ascii(self.name).map_err(|_| DnsError::Name {
            name: self.name.to_owned(),
            problem: "is not a DNS name",
        })?;
        let servers = self.name_servers.to_vec();
        let timeout = self.timeout / TRIES;
        // Files are read: resolv.conf and hosts.
        let prepared = tokio::task::spawn_blocking(move || -> Result<Fresh, BoxError> {
            let (config, mut options) = match servers.is_empty() {
                true => read_system_conf()?,
                false => given(&servers),
            };
            options.timeout = timeout;
            // One try more than there is time for: it is the time that ends them.
            options.attempts = TRIES as usize;
            let names = full_names(name, &config, options.ndots);
            let provider = TokioRuntimeProvider::default();
            let resolver = TokioResolver::builder_with_config(config, provider);
            let resolver = resolver.with_options(options).build()?;
            Ok(Fresh { resolver, names })
        });
        let prepared = prepared.await.unwrap_or_else(|error| Err(error.into()));
        prepared.map_err(|source| DnsError::System { source })
    }
}

/// These name servers, and nothing of the system.
fn given(servers: &[SocketAddr]) -> (ResolverConfig, ResolverOpts) {
    let servers = servers.iter().map(|addr| {
        let mut server = NameServerConfig::udp_and_tcp(addr.ip());
        for connection in &mut server.connections {
            connection.port = addr.port();
        }
        server
    });
    let config = ResolverConfig::from_parts(None, Vec::new(), servers.collect());
    let mut options = ResolverOpts::default();
    options.use_hosts_file = ResolveHosts::Never;
    (config, options)
}

/// The names that are meant, as resolv.conf(5) has it: the search list goes first for names with
/// less than `ndots` dots. All kinds of records are asked of one name before the next is tried.
fn full_names(mut name: Name, config: &ResolverConfig, ndots: usize) -> Vec<Name> {
    let dots = usize::from(name.num_labels()).saturating_sub(1);
    let is_full = name.is_fqdn();
    name.set_fqdn(true);
    if is_full {
        return vec![name];
    }
    let domain = config.domain().filter(|_| config.search().is_empty());
    let search = config.search().iter().chain(domain);
    let search = search.filter_map(|suffix| {
        let mut short = name.clone();
        short.set_fqdn(false);
        let mut full = short.append_domain(suffix).ok()?;
        full.set_fqdn(true);
        Some(full)
    });
    let mut names: Vec<Name> = search.collect();
    names.insert(if dots >= ndots { 0 } else { names.len() }, name);
    names
}

#[cfg(test)]
mod tests {
    use hickory_resolver::system_conf::parse_resolv_conf;

    use super::*;

    fn names(name: &str, resolv_conf: &str) -> Vec<String> {
        let text = format!("nameserver 10.0.0.53\n{resolv_conf}\n");
        let (config, options) = parse_resolv_conf(text).unwrap();
        let name = Name::from_ascii(name).unwrap();
        let names = full_names(name, &config, options.ndots);
        names.iter().map(Name::to_ascii).collect()
    }

    #[test]
    fn the_search_list_goes_first_for_names_with_few_dots() {
        let kubernetes = "search prod.svc.cluster.local svc.cluster.local\noptions ndots:5";
        assert_eq!(
            names("pg", kubernetes),
            ["pg.prod.svc.cluster.local.", "pg.svc.cluster.local.", "pg."]
        );
        assert_eq!(
            names("a.b.c.d.e.f", kubernetes),
            [
                "a.b.c.d.e.f.",
                "a.b.c.d.e.f.prod.svc.cluster.local.",
                "a.b.c.d.e.f.svc.cluster.local."
            ]
        );
        let one = "search example.com";
        assert_eq!(names("pg", one), ["pg.example.com.", "pg."]);
        assert_eq!(names("pg.db", one), ["pg.db.", "pg.db.example.com."]);
    }

    #[test]
    fn a_last_dot_makes_a_name_complete() {
        assert_eq!(names("pg.", "search example.com\noptions ndots:5"), ["pg."]);
    }

    #[test]
    fn a_suffix_that_makes_the_name_too_long_is_passed_over() {
        let label = "a".repeat(60);
        let long = format!("{label}.{label}.{label}.{label}");
        assert_eq!(names(&long, "search example.com"), [format!("{long}.")]);
    }
}
