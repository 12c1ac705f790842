//! AWS host names and patterns of host names, of arbitrary text: what is recognized, and what an
//! instance's id can do.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use leadpool::config::{AwsEndpoint, EndpointKind, InstancePattern};
use proptest::{prelude::*, sample::select};

/// A label as AWS and DNS allow it, in any case.
const LABEL: &str = "[a-zA-Z][a-zA-Z0-9_-]{0,20}[a-zA-Z0-9]";

/// Text that is almost an endpoint: its parts in any order, and other things between them.
fn almost() -> impl Strategy<Value = String> {
    let part = prop_oneof![
        select(vec![
            "cluster-",
            "cluster-ro-",
            "cluster-custom-",
            "proxy-",
            "shardgrp-",
            "global-",
            "endpoint",
            "global",
            "rds",
            "rds-fips",
            "us-east-2",
            "cn-north-1",
            "amazonaws.com",
            "amazonaws.com.cn",
            "c2s.ic.gov",
            "sc2s.sgov.gov",
            "-green-",
            "-old1",
            ".",
            ".",
            ".",
            ".",
            ":",
            "?",
            "-",
        ])
        .prop_map(str::to_owned),
        "[a-zA-Z0-9]{1,4}",
        ".",
    ];
    proptest::collection::vec(part, 0..16).prop_map(|parts| parts.concat())
}

/// A cluster's endpoint (writer, reader, custom) or an instance's, in any partition.
fn cluster() -> impl Strategy<Value = String> {
    let prefix = select(vec!["cluster-", "cluster-ro-", "cluster-custom-", ""]);
    let domain = select(vec![
        "{region}.rds.amazonaws.com",
        "{region}.rds-fips.amazonaws.com",
        "rds.{region}.amazonaws.com",
        "{region}.rds.amazonaws.com.cn",
        "rds.{region}.amazonaws.com.cn",
        "{region}.rds.amazonaws.eu",
        "rds.{region}.c2s.ic.gov",
        "rds.{region}.sc2s.sgov.gov",
    ]);
    let region = "[a-z]{2,4}(-(gov|iso|isob))?-(east|northwest|central)-[1-9]";
    (
        LABEL,
        prefix,
        "c[a-zA-Z0-9]{11}",
        domain,
        region,
        select(vec!["", "."]),
    )
        .prop_map(|(name, prefix, id, domain, region, end)| {
            format!(
                "{name}.{prefix}{id}.{}{end}",
                domain.replace("{region}", &region)
            )
        })
}

fn recognized(host: &str) -> Result<AwsEndpoint, TestCaseError> {
    AwsEndpoint::recognize(host)
        .ok_or_else(|| TestCaseError::fail(format!("{host}: not recognized")))
}

/// What holds for every endpoint.
fn is_sound(host: &str, endpoint: &AwsEndpoint) -> Result<(), TestCaseError> {
    let bare = host.strip_suffix('.').unwrap_or(host);
    for variant in [
        bare.to_ascii_uppercase(),
        bare.to_ascii_lowercase(),
        format!("{bare}."),
    ] {
        prop_assert_eq!(&recognized(&variant)?, endpoint);
    }
    let start = format!("{}.", endpoint.name());
    prop_assert!(bare.to_ascii_lowercase().starts_with(&start), "{}", host);
    prop_assert_eq!(
        endpoint.region().is_none(),
        endpoint.kind() == EndpointKind::Global
    );
    let instance = endpoint.instance_host("inst-1");
    prop_assert_eq!(instance.is_some(), endpoint.instance_pattern().is_some());
    let Some(instance) = instance else {
        return Ok(());
    };
    let pattern = InstancePattern::parse(&endpoint.instance_pattern().unwrap()).unwrap();
    prop_assert_eq!(pattern.host("inst-1").unwrap(), (instance.clone(), None));
    let instance = recognized(&instance)?;
    prop_assert_eq!(instance.kind(), EndpointKind::Instance);
    prop_assert_eq!(instance.name(), "inst-1");
    prop_assert_eq!(instance.region(), endpoint.region());
    prop_assert_eq!(instance.id(), endpoint.id());
    prop_assert_eq!(instance.instance_pattern(), endpoint.instance_pattern());
    Ok(())
}

proptest! {
    #[test]
    fn no_text_makes_recognition_panic(text in ".{0,80}", almost in almost()) {
        for text in [text, almost] {
            if let Some(endpoint) = AwsEndpoint::recognize(&text) {
                is_sound(&text, &endpoint)?;
            }
        }
    }

    #[test]
    fn an_instance_beside_a_cluster_is_recognized(host in cluster(), id in LABEL) {
        let endpoint = recognized(&host)?;
        is_sound(&host, &endpoint)?;
        let instance = recognized(&endpoint.instance_host(&id).unwrap())?;
        prop_assert_eq!(instance.kind(), EndpointKind::Instance);
        prop_assert_eq!(instance.name(), id.to_ascii_lowercase());
        prop_assert_eq!(instance.region(), endpoint.region());
        prop_assert_eq!(instance.id(), endpoint.id());
    }

    #[test]
    fn a_name_within_another_domain_is_not_recognized(host in cluster(), domain in "[a-z]{1,8}") {
        let within = format!("{}.{domain}", host.trim_end_matches('.'));
        prop_assume!(domain != "cn");
        prop_assert_eq!(AwsEndpoint::recognize(&within), None);
    }

    /// Whatever the server says, the name stays in the pattern's domain, as deep as it was.
    #[test]
    fn an_id_changes_one_label(
        before in "([a-z0-9]{1,4}\\.){0,2}[a-z]{0,3}",
        after in "[a-z]{0,3}(\\.[a-z]{1,4}){1,3}",
        port in proptest::option::of(1..=u16::MAX),
        id in prop_oneof![".{0,70}", almost(), LABEL],
    ) {
        let end = port.map(|port| format!(":{port}")).unwrap_or_default();
        let pattern = InstancePattern::parse(&format!("{before}?{after}{end}")).unwrap();
        if let Ok((host, its_port)) = pattern.host(&id) {
            prop_assert_eq!(&host, &format!("{before}{}{after}", id.to_ascii_lowercase()));
            prop_assert_eq!(its_port, port);
            let depth = |name: &str| name.split('.').count();
            prop_assert_eq!(depth(&host), depth(&format!("{before}x{after}")));
            prop_assert!(host.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b)));
        }
    }

    #[test]
    fn no_text_makes_a_pattern_panic(text in ".{0,60}", almost in almost(), id in ".{0,70}") {
        for text in [text, almost] {
            if let Ok(pattern) = InstancePattern::parse(&text) {
                let _host = pattern.host(&id);
                prop_assert_eq!(&InstancePattern::parse(&pattern.to_string()).unwrap(), &pattern);
            }
        }
    }
}
