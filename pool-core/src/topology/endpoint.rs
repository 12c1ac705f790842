//! What an AWS host name says: which kind of endpoint, which region, which instances beside it.
//!
//! Aurora's endpoints:
//! [Amazon Aurora User Guide](https://docs.aws.amazon.com/AmazonRDS/latest/AuroraUserGuide/Aurora.Overview.Endpoints.html);
//! blue/green names:
//! [the same](https://docs.aws.amazon.com/AmazonRDS/latest/AuroraUserGuide/blue-green-deployments-switching.html).

use super::instance_pattern::is_label;

/// A host name of Aurora, of RDS or of an RDS Proxy.
///
/// It is read from the name alone: nothing is resolved or asked, and a name that looks right may
/// not exist. Everything is in lower case, as DNS does not tell the difference.
///
/// ```
/// use leadpool::config::{AwsEndpoint, EndpointKind};
///
/// let host = "mydb.cluster-XYZ.us-east-2.rds.amazonaws.com";
/// let endpoint = AwsEndpoint::recognize(host).expect("an endpoint of AWS");
/// assert_eq!(endpoint.kind(), EndpointKind::Cluster);
/// assert_eq!((endpoint.name(), endpoint.id()), ("mydb", "xyz"));
/// assert_eq!(endpoint.region(), Some("us-east-2"));
/// assert_eq!(
///     endpoint.instance_host("inst-1").as_deref(),
///     Some("inst-1.xyz.us-east-2.rds.amazonaws.com"),
/// );
/// assert_eq!(AwsEndpoint::recognize("db1.example.com"), None);
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct AwsEndpoint {
    kind: EndpointKind,
    name: String,
    id: String,
    region: Option<String>,
    /// Everything behind the label that holds the id.
    domain: String,
}

/// What answers behind an endpoint.
///
/// ```
/// use leadpool::config::{AwsEndpoint, EndpointKind};
///
/// let kind = |host| AwsEndpoint::recognize(host).map(|endpoint| endpoint.kind());
/// assert_eq!(
///     kind("mydb.cluster-ro-xyz.rds.cn-north-1.amazonaws.com.cn"),
///     Some(EndpointKind::ReaderCluster),
/// );
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum EndpointKind {
    /// The writer of a cluster, `<cluster>.cluster-<id>`, whichever instance that is.
    Cluster,
    /// One of a cluster's readers, `<cluster>.cluster-ro-<id>`; the writer if there is none.
    ReaderCluster,
    /// One of the instances that the owner has put together, `<alias>.cluster-custom-<id>`.
    Custom,
    /// One instance, `<instance>.<id>`, whatever its role.
    Instance,
    /// An RDS Proxy, `<proxy>.proxy-<id>`. Failovers are its own matter: it hides the topology.
    Proxy,
    /// A further endpoint of an RDS Proxy, `<endpoint>.endpoint.proxy-<id>`.
    ProxyEndpoint,
    /// A shard group of Aurora Limitless, `<group>.shardgrp-<id>`.
    Limitless,
    /// The writer of a global database, `<global>.global-<id>.global`, whichever region that is in.
    Global,
}

/// What AWS's database domains end with, one for each partition.
const PARTITIONS: &[&str] = &[
    ".amazonaws.com",
    ".amazonaws.com.cn",
    ".amazonaws.eu",
    ".c2s.ic.gov",
    ".sc2s.sgov.gov",
];

/// What stands before the id in the label that holds it. The longer prefixes come first.
const PREFIXES: &[(&str, EndpointKind)] = &[
    ("cluster-custom-", EndpointKind::Custom),
    ("cluster-ro-", EndpointKind::ReaderCluster),
    ("cluster-", EndpointKind::Cluster),
    ("proxy-", EndpointKind::Proxy),
    ("shardgrp-", EndpointKind::Limitless),
    ("global-", EndpointKind::Global),
    ("", EndpointKind::Instance),
];

/// What is left of a prefix, or of the domain, when the id was lost: not an id.
const NO_IDS: &[&str] = &[
    "cluster", "custom", "endpoint", "global", "proxy", "rds", "ro", "shardgrp",
];

impl AwsEndpoint {
    /// Recognizes a host name, in any case, with or without the dot at its end. `None` for every
    /// other name, and for what is not a name at all.
    ///
    /// Partitions whose names are not known here give `None` too; there an
    /// [`InstancePattern`](super::InstancePattern) says what the endpoint can't.
    #[must_use]
    pub fn recognize(host: &str) -> Option<Self> {
        let host = host.strip_suffix('.').unwrap_or(host).to_ascii_lowercase();
        let partition = PARTITIONS.iter().find(|end| host.ends_with(**end))?;
        let labels: Vec<&str> = host.strip_suffix(partition)?.split('.').collect();
        let (name, is_further, holder, area) = match *labels {
            [name, "endpoint", holder, a, b] => (name, true, holder, [a, b]),
            [name, holder, a, b] => (name, false, holder, [a, b]),
            _ => return None,
        };
        let (prefix, kind) = PREFIXES
            .iter()
            .find(|(prefix, _)| holder.starts_with(prefix))?;
        let kind = match (kind, is_further) {
            (EndpointKind::Proxy, true) => EndpointKind::ProxyEndpoint,
            (_, true) => return None,
            (kind, false) => *kind,
        };
        let region = match area {
            ["global", "rds" | "rds-fips"] if kind == EndpointKind::Global => None,
            _ if kind == EndpointKind::Global => return None,
            [region, "rds" | "rds-fips"] | ["rds" | "rds-fips", region] if is_region(region) => {
                Some(region.to_owned())
            }
            _ => return None,
        };
        let id = holder.strip_prefix(prefix)?;
        if !is_label(name) || !is_label(holder) || !is_id(id) {
            return None;
        }
        Some(Self {
            kind,
            name: name.to_owned(),
            id: id.to_owned(),
            region,
            domain: format!("{}.{}{partition}", area[0], area[1]),
        })
    }

    /// What answers behind it.
    #[must_use]
    pub fn kind(&self) -> EndpointKind {
        self.kind
    }

    /// The first label: the name of the cluster, custom endpoint, instance, proxy, shard group or
    /// global database, in lower case.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The region; `None` for a global database, which has several.
    #[must_use]
    pub fn region(&self) -> Option<&str> {
        self.region.as_deref()
    }

    /// The part that is the same for all instances of an account in a region, without `cluster-`
    /// and the like, in lower case.
    #[must_use]
    pub fn id(&self) -> &str {
        &self.id
    }

    /// The host name of an instance of this cluster, by the id that Aurora's topology gives it.
    ///
    /// `None` where instances can't be reached this way (behind a proxy, a shard group, a global
    /// database), and for what is no instance's id, as in
    /// [`InstancePattern::host`](super::InstancePattern::host).
    #[must_use]
    pub fn instance_host(&self, id: &str) -> Option<String> {
        let host = format!("{}.{}", id.to_ascii_lowercase(), self.instance_domain()?);
        is_label(id).then_some(host)
    }

    /// The pattern of the instances' host names, `?.<id>.<region>.rds.amazonaws.com`, which
    /// [`InstancePattern`](super::InstancePattern) reads. `None` where
    /// [`instance_host`](Self::instance_host) always is.
    #[must_use]
    pub fn instance_pattern(&self) -> Option<String> {
        Some(format!("?.{}", self.instance_domain()?))
    }

    /// Whether it belongs to the green environment of a blue/green deployment before the
    /// switchover: its name ends with `-green-` and six letters or digits.
    #[must_use]
    pub fn is_green(&self) -> bool {
        self.name.rsplit_once("-green-").is_some_and(|(_, end)| {
            end.len() == 6 && end.bytes().all(|b| b.is_ascii_alphanumeric())
        })
    }

    /// Whether it belongs to the former blue environment after the switchover: its name ends with
    /// `-old` and a number, mostly 1, and it is not [green](Self::is_green).
    #[must_use]
    pub fn is_old(&self) -> bool {
        // `-green-old123` ends with both: three digits are rather six of AWS's random characters
        // than the number of a switchover.
        let number = self.name.rsplit_once("-old").map(|(_, number)| number);
        !self.is_green()
            && number.is_some_and(|number| {
                !number.is_empty() && number.bytes().all(|b| b.is_ascii_digit())
            })
    }

    fn instance_domain(&self) -> Option<String> {
        match self.kind {
            EndpointKind::Cluster
            | EndpointKind::ReaderCluster
            | EndpointKind::Custom
            | EndpointKind::Instance => Some(format!("{}.{}", self.id, self.domain)),
            EndpointKind::Proxy
            | EndpointKind::ProxyEndpoint
            | EndpointKind::Limitless
            | EndpointKind::Global => None,
        }
    }
}

/// What follows the prefix of a label is not empty: a label does not end with a hyphen.
fn is_id(text: &str) -> bool {
    !NO_IDS.contains(&text) && text.bytes().all(|b| b.is_ascii_alphanumeric())
}

/// Words and a number, three at least: `us-east-2`, `us-gov-west-1`.
fn is_region(text: &str) -> bool {
    let parts: Vec<&str> = text.split('-').collect();
    let is = |part: &str, kind: fn(&u8) -> bool| !part.is_empty() && part.bytes().all(|b| kind(&b));
    match *parts.as_slice() {
        [first, ref middle @ .., number] => {
            is_label(text)
                && is(first, u8::is_ascii_alphabetic)
                && !middle.is_empty()
                && middle
                    .iter()
                    .all(|part| is(part, u8::is_ascii_alphanumeric))
                && is(number, u8::is_ascii_digit)
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests;
