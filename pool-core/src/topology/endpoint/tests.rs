//! Every shape in every partition, and what only looks like one.

use super::{super::InstancePattern, *};
use EndpointKind::{
    Cluster, Custom, Global, Instance, Limitless, Proxy, ProxyEndpoint, ReaderCluster,
};

/// What precedes the id, the kind, and whether instances stand beside it.
const SHAPES: &[(&str, EndpointKind, bool)] = &[
    ("cluster-", Cluster, true),
    ("cluster-ro-", ReaderCluster, true),
    ("cluster-custom-", Custom, true),
    ("", Instance, true),
    ("proxy-", Proxy, false),
    ("endpoint.proxy-", ProxyEndpoint, false),
    ("shardgrp-", Limitless, false),
];

/// What follows the id, and the region in it.
const DOMAINS: &[(&str, &str)] = &[
    ("us-east-2.rds.amazonaws.com", "us-east-2"),
    ("ap-southeast-2.rds-fips.amazonaws.com", "ap-southeast-2"),
    ("us-gov-west-1.rds.amazonaws.com", "us-gov-west-1"),
    ("rds.us-gov-east-1.amazonaws.com", "us-gov-east-1"),
    ("rds-fips.us-gov-east-1.amazonaws.com", "us-gov-east-1"),
    ("rds.cn-northwest-1.amazonaws.com.cn", "cn-northwest-1"),
    ("cn-north-1.rds.amazonaws.com.cn", "cn-north-1"),
    ("rds.us-iso-east-1.c2s.ic.gov", "us-iso-east-1"),
    ("us-iso-east-1.rds.c2s.ic.gov", "us-iso-east-1"),
    ("rds.us-isob-east-1.sc2s.sgov.gov", "us-isob-east-1"),
    ("eusc-de-east-1.rds.amazonaws.eu", "eusc-de-east-1"),
];

#[test]
fn every_shape_in_every_partition() {
    for (prefix, kind, has_instances) in SHAPES {
        for (domain, region) in DOMAINS {
            let host = format!("my-db-1.{prefix}c0ffee123xyz.{domain}");
            for host in [host.clone(), host.to_uppercase(), format!("{host}.")] {
                let endpoint = AwsEndpoint::recognize(&host);
                let endpoint = endpoint.unwrap_or_else(|| panic!("{host}"));
                assert_eq!(endpoint.kind(), *kind, "{host}");
                assert_eq!(endpoint.name(), "my-db-1", "{host}");
                assert_eq!(endpoint.id(), "c0ffee123xyz", "{host}");
                assert_eq!(endpoint.region(), Some(*region), "{host}");

                let instance = format!("inst-1.c0ffee123xyz.{domain}");
                let pattern = format!("?.c0ffee123xyz.{domain}");
                assert_eq!(
                    endpoint.instance_host("Inst-1"),
                    has_instances.then_some(instance.clone()),
                    "{host}"
                );
                assert_eq!(
                    endpoint.instance_pattern(),
                    has_instances.then_some(pattern.clone()),
                    "{host}"
                );
                let pattern = InstancePattern::parse(&pattern).unwrap();
                assert_eq!(pattern.host("Inst-1"), Ok((instance, None)));
            }
        }
    }
}

#[test]
fn a_global_database_has_no_region() {
    for host in [
        "my-db-1.global-c0ffee123xyz.global.rds.amazonaws.com",
        "MY-DB-1.GLOBAL-C0FFEE123XYZ.GLOBAL.RDS.AMAZONAWS.COM.",
    ] {
        let endpoint = AwsEndpoint::recognize(host).unwrap();
        assert_eq!(endpoint.kind(), Global);
        assert_eq!(
            (endpoint.name(), endpoint.id()),
            ("my-db-1", "c0ffee123xyz")
        );
        assert_eq!(endpoint.region(), None);
        assert_eq!(endpoint.instance_host("inst-1"), None);
        assert_eq!(endpoint.instance_pattern(), None);
    }
}

const OTHERS: &[&str] = &[
    "",
    ".",
    "localhost",
    "10.0.0.1",
    "::1",
    "/var/run/postgresql",
    "db1.example.com",
    // Look-alikes.
    "evil.cluster-x.us-east-1.rds.amazonaws.com.attacker.org",
    "evil.cluster-x.us-east-1.rds.amazonaws.com.cn.attacker.org",
    "evil.cluster-x.us-east-1.rds.evilamazonaws.com",
    "evil.cluster-x.us-east-1.rds-amazonaws.com",
    "evil.cluster-x.us-east-1.rds.amazonaws.com.evil.com",
    "evil.cluster-x.us-east-1.rds.amazonaws.co",
    "evil.cluster-x.us-east-1.rds.amazonaws.com.au",
    "evil.cluster-x.us-east-1.rds.amazonaws.com@attacker.org",
    "attacker.org/x.cluster-x.us-east-1.rds.amazonaws.com",
    "attacker.org#.cluster-x.us-east-1.rds.amazonaws.com",
    "a:b@c.cluster-x.us-east-1.rds.amazonaws.com",
    "db.cluster-x.us-east-1.rds.c2s.ic.gov.com",
    // Other services.
    "name.elb.us-east-2.amazonaws.com",
    "db.x.us-east-1.redshift.amazonaws.com",
    "db.cluster-x.us-east-1.docdb.amazonaws.com",
    "db.cluster-x.us-east-1.rdsx.amazonaws.com",
    // A part too many, or too few.
    "amazonaws.com",
    "rds.amazonaws.com",
    "us-east-1.rds.amazonaws.com",
    "rds.us-east-1.amazonaws.com",
    "x.us-east-1.rds.amazonaws.com",
    "cluster-x.us-east-1.rds.amazonaws.com",
    "a.db.cluster-x.us-east-1.rds.amazonaws.com",
    "db.cluster-x.cluster-y.us-east-1.rds.amazonaws.com",
    "db.cluster-x.rds.amazonaws.com",
    "db.cluster-x.us-east-1.rds.us-east-1.amazonaws.com",
    "db.endpoint.cluster-x.us-east-1.rds.amazonaws.com",
    "db.endpoint.x.us-east-1.rds.amazonaws.com",
    "db.other.proxy-x.us-east-1.rds.amazonaws.com",
    "endpoint.proxy-x.y.us-east-1.rds.amazonaws.com",
    // Empty parts.
    ".cluster-x.us-east-1.rds.amazonaws.com",
    "db..us-east-1.rds.amazonaws.com",
    "db.cluster-x..rds.amazonaws.com",
    "db.cluster-x.us-east-1..amazonaws.com",
    "db.cluster-x.us-east-1.rds..amazonaws.com",
    "db.cluster-x.us-east-1.rds.amazonaws.com..",
    ".db.cluster-x.us-east-1.rds.amazonaws.com",
    // No id, or something else in its place.
    "db.cluster-.us-east-1.rds.amazonaws.com",
    "db.cluster-ro-.us-east-1.rds.amazonaws.com",
    "db.cluster-ro.us-east-1.rds.amazonaws.com",
    "db.cluster-custom-.us-east-1.rds.amazonaws.com",
    "db.cluster-custom.us-east-1.rds.amazonaws.com",
    "db.cluster.us-east-1.rds.amazonaws.com",
    "db.proxy-.us-east-1.rds.amazonaws.com",
    "db.proxy.us-east-1.rds.amazonaws.com",
    "db.endpoint.proxy-.us-east-1.rds.amazonaws.com",
    "db.endpoint.us-east-1.rds.amazonaws.com",
    "db.shardgrp-.us-east-1.rds.amazonaws.com",
    "db.global-.global.rds.amazonaws.com",
    "db.rds.us-east-1.rds.amazonaws.com",
    "db.cluster-x-y.us-east-1.rds.amazonaws.com",
    "db.cluster-ro-ro-x.us-east-1.rds.amazonaws.com",
    "db.cluster-x_y.us-east-1.rds.amazonaws.com",
    "db.other-x.us-east-1.rds.amazonaws.com",
    // No region, or a global name with one.
    "db.cluster-x.east.rds.amazonaws.com",
    "db.cluster-x.us-east.rds.amazonaws.com",
    "db.cluster-x.us-1.rds.amazonaws.com",
    "db.cluster-x.us--1.rds.amazonaws.com",
    "db.cluster-x.us-east-1a.rds.amazonaws.com",
    "db.cluster-x.1-east-1.rds.amazonaws.com",
    "db.cluster-x.rds.rds.amazonaws.com",
    "db.cluster-x.global.rds.amazonaws.com",
    "db.x.global.rds.amazonaws.com",
    "db.global-x.us-east-1.rds.amazonaws.com",
    "db.global-x.rds.global.amazonaws.com",
    // Names that are none.
    "-db.cluster-x.us-east-1.rds.amazonaws.com",
    "db-.cluster-x.us-east-1.rds.amazonaws.com",
    "d b.cluster-x.us-east-1.rds.amazonaws.com",
    " db.cluster-x.us-east-1.rds.amazonaws.com",
    "db.cluster-x.us-east-1.rds.amazonaws.com ",
    "db.cluster-x.us-east-1.rds.amazonaws.com\n",
    "db.cluster-x.us-east-1.rds.amazonaws.com:5432",
    "db\0.cluster-x.us-east-1.rds.amazonaws.com",
    "?.x.us-east-1.rds.amazonaws.com",
    "*.x.us-east-1.rds.amazonaws.com",
    // Letters that other rules of case would turn into ASCII's, and dots that are none.
    "d\u{00fc}b.cluster-x.us-east-1.rds.amazonaws.com",
    "db.cluster-x.u\u{017f}-east-1.rds.amazonaws.com",
    "\u{212a}db.cluster-x.us-east-1.rds.amazonaws.com",
    "db\u{ff0e}cluster-x.us-east-1.rds.amazonaws.com",
    "db.cluster-x\u{0661}.us-east-1.rds.amazonaws.com",
    "db.cluster-x.us-east-\u{0661}.rds.amazonaws.com",
];

#[test]
fn other_names_are_not_recognized() {
    for host in OTHERS {
        assert_eq!(AwsEndpoint::recognize(host), None, "{host}");
    }
}

#[test]
fn labels_are_no_longer_than_dns_has_them() {
    let read = |name: usize, id: usize, region: usize| {
        let [name, id, region] = [name, id, region].map(|length| "x".repeat(length));
        let host = format!("{name}.cluster-{id}.us-{region}-1.rds.amazonaws.com");
        AwsEndpoint::recognize(&host)
    };
    assert!(read(63, 55, 58).is_some());
    assert!(read(64, 55, 58).is_none());
    assert!(read(63, 56, 58).is_none());
    assert!(read(63, 55, 59).is_none());
    let endpoint = read(1, 1, 4).unwrap();
    assert!(endpoint.instance_host(&"x".repeat(63)).is_some());
    assert!(endpoint.instance_host(&"x".repeat(64)).is_none());
}

#[test]
fn an_instances_id_names_no_other_domain() {
    let host = "db.cluster-x.us-east-1.rds.amazonaws.com";
    let endpoint = AwsEndpoint::recognize(host).unwrap();
    for id in [
        "",
        "a.b",
        "evil.org/",
        "x@evil.org",
        "x:1",
        "-x",
        "x-",
        "\u{212a}",
    ] {
        assert_eq!(endpoint.instance_host(id), None, "{id}");
    }
}

#[test]
fn blue_and_green_are_told_apart() {
    for (name, green, old) in [
        ("mydb", false, false),
        ("mydb-green-abc123", true, false),
        ("MYDB-GREEN-ABC123", true, false),
        ("mydb-old1", false, true),
        ("mydb-OLD12", false, true),
        ("mydb-green-abc123-old1", false, true),
        ("mydb-green-old123", true, false),
        ("mydb-green-old1", false, true),
        ("mydb-green-abc12", false, false),
        ("mydb-green-abc1234", false, false),
        ("mydb-green-abc-12", false, false),
        ("mydbgreen-abc123", false, false),
        ("green-abc123", false, false),
        ("mydb-old", false, false),
        ("mydb-old1x", false, false),
        ("mydb-oldx", false, false),
        ("mydbold1", false, false),
        ("old1", false, false),
    ] {
        for prefix in ["cluster-", "cluster-ro-", ""] {
            let host = format!("{name}.{prefix}x.us-east-1.rds.amazonaws.com");
            let endpoint = AwsEndpoint::recognize(&host).unwrap();
            assert_eq!(endpoint.is_green(), green, "{name}");
            assert_eq!(endpoint.is_old(), old, "{name}");
        }
    }
}
