//! What Patroni answers to `GET /cluster`, and what is made of it.

#![cfg(feature = "patroni")]
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use leadpool::{
    HostAddr,
    discovery::patroni::{Member, Members, MembersError},
};
use proptest::{collection::vec, option, prelude::*};

/// Three members each: a leader, `n2` with tags, and `n3` with a zone that is a number.
const TRUE_ANSWERS: [&[u8]; 2] = [
    include_bytes!("data/patroni-3.0.2.json"),
    include_bytes!("data/patroni-4.1.5.json"),
];

fn members(json: &str) -> Result<Members, MembersError> {
    Members::parse(json.as_bytes())
}

/// The one member with these further keys.
fn member(keys: &str) -> Member {
    let json = format!(r#"{{"members":[{{"name":"n1",{keys}}}]}}"#);
    let parsed = members(&json).unwrap();
    parsed.iter().next().unwrap().clone()
}

#[test]
fn true_answers_are_read() {
    for answer in TRUE_ANSWERS {
        let members = Members::parse(answer).unwrap();
        let all: Vec<&Member> = members.iter().collect();
        let addrs: Vec<String> = all.iter().map(|m| m.addr().unwrap().to_string()).collect();
        assert_eq!(
            addrs,
            ["127.0.77.1:25501", "127.0.77.2:25501", "127.0.77.3:25501"]
        );
        assert!(all.iter().all(|member| member.has_server()));
        assert_eq!(all[0].api_url(), Some("http://127.0.77.1:25508/patroni"));
        let zones: Vec<_> = all.iter().map(|m| m.zone("availability_zone")).collect();
        assert_eq!(zones, [None, Some("eu-1b".into()), Some("7".into())]);
        let kept: Vec<bool> = all.iter().map(|m| m.is_not_for_reading()).collect();
        assert_eq!(kept, [false, true, false]);
    }
}

#[test]
fn versions_differ_in_states() {
    let [three, four] = TRUE_ANSWERS.map(|answer| Members::parse(answer).unwrap());
    let states = |members: &Members| -> Vec<String> {
        let states = members
            .iter()
            .map(|m| format!("{} {}", m.role(), m.state()));
        states.collect()
    };
    assert_eq!(
        states(&three),
        ["replica running", "leader running", "replica running"]
    );
    assert_eq!(
        states(&four),
        [
            "leader running",
            "sync_standby streaming",
            "replica streaming"
        ]
    );
    assert_eq!(three.leader().unwrap().name(), "n2");
    assert_eq!(four.leader().unwrap().name(), "n1");
}

#[test]
fn only_a_leader_that_can_be_written_to_is_one() {
    for (role, is_leader) in [
        ("leader", true),
        ("master", true),
        ("primary", true),
        ("standby_leader", false),
        ("sync_standby", false),
        ("quorum_standby", false),
        ("replica", false),
        ("Leader", false),
        ("", false),
    ] {
        let member = member(&format!(r#""role":"{role}""#));
        assert_eq!(member.is_leader(), is_leader, "{role}");
    }
}

#[test]
fn a_member_without_a_server_is_none_to_ask() {
    let address = r#""host":"db1","port":5432"#;
    for (state, has_server) in [
        ("running", true),
        ("streaming", true),
        ("in archive recovery", true),
        ("starting", true),
        ("stopped", true),
        ("crashed", true),
        ("", true),
        ("a state of tomorrow", true),
        ("creating replica", false),
        ("initializing new cluster", false),
    ] {
        let member = member(&format!(r#""role":"replica","state":"{state}",{address}"#));
        assert_eq!(member.has_server(), has_server, "{state}");
    }
    for keys in [
        r#""role":"replica""#,
        r#""role":"replica","host":"db1""#,
        r#""role":"replica","port":5432"#,
        r#""role":"replica","host":null,"port":null,"state":null,"tags":null,"api_url":null"#,
    ] {
        let member = member(keys);
        assert!(!member.has_server() && member.addr().is_none(), "{keys}");
    }
}

#[test]
fn tags_are_taken_as_patroni_takes_them() {
    for (value, kept) in [
        ("true", true),
        ("1", true),
        (r#""false""#, true),
        ("[0]", true),
        (r#"{"a":0}"#, true),
        ("false", false),
        ("0", false),
        ("0.0", false),
        ("null", false),
        (r#""""#, false),
        ("[]", false),
        ("{}", false),
    ] {
        let member = member(&format!(
            r#""role":"replica","tags":{{"noloadbalance":{value}}}"#
        ));
        assert_eq!(member.is_not_for_reading(), kept, "{value}");
    }
    let long = format!(r#""{}""#, "z".repeat(129));
    for (value, zone) in [
        (r#""eu-1b""#, Some("eu-1b")),
        ("1.5", Some("1.5")),
        ("true", None),
        (r#""""#, None),
        (r#""a\nb""#, None),
        (long.as_str(), None),
        ("[1]", None),
    ] {
        let member = member(&format!(r#""role":"replica","tags":{{"az":{value}}}"#));
        assert_eq!(member.zone("az").as_deref(), zone, "{value}");
        assert_eq!(member.zone("availability_zone"), None);
    }
}

#[test]
fn addresses_that_can_not_be_are_refused_and_named() {
    let long = "h".repeat(254);
    for (host, port, word) in [
        ("db1", "0", "0 is not a port"),
        ("db1", "65536", "65536 is not a port"),
        ("db1", "-1", "-1 is not a port"),
        ("", "5432", "`` is not a host name"),
        ("/var/run/postgresql", "5432", "is not a host name"),
        ("db1,db2", "5432", "is not a host name"),
        ("db1 ", "5432", "is not a host name"),
        ("db\\u00001", "5432", "is not a host name"),
        ("@db1", "5432", "is not a host name"),
        ("dé1", "5432", "is not a host name"),
        (long.as_str(), "5432", "…` is not a host name"),
    ] {
        let json = format!(
            r#"{{"members":[{{"name":"n7","role":"replica","host":"{host}","port":{port}}}]}}"#
        );
        let error = members(&json).unwrap_err();
        assert!(matches!(error, MembersError::Address { .. }), "{error}");
        let text = error.to_string();
        assert!(text.contains("`n7`") && text.contains(word), "{text}");
        assert!(text.contains("postgresql.connect_address"), "{text}");
    }
    let ipv6 = member(r#""role":"replica","host":"fe80::1%eth0","port":5432"#);
    assert_eq!(ipv6.addr(), Some(&HostAddr::new("fe80::1%eth0", 5432)));
}

#[test]
fn what_is_no_answer_is_told() {
    for (body, word) in [
        ("", "EOF"),
        ("<html>", "line 1 column 1"),
        (r#"{"members": [{"name": "n1""#, "EOF"),
        ("{\"members\": []} tail", "trailing"),
        ("\u{0}", "line 1"),
    ] {
        let error = members(body).unwrap_err();
        assert!(matches!(error, MembersError::NotJson { .. }), "{error}");
        assert!(error.to_string().contains(word), "{error}");
    }
    for (body, word) in [
        ("null", "null"),
        ("[]", "members"),
        ("7", "7"),
        ("{}", "members"),
        (r#"{"members": {}}"#, "a list of members"),
        (r#"{"members": [7]}"#, "7"),
        (r#"{"members": [{"role": "leader"}]}"#, "name"),
        (r#"{"members": [{"name": "n1"}]}"#, "role"),
        (r#"{"members": [{"name": "n1", "role": 1}]}"#, "string"),
        (
            r#"{"members": [{"name": "n1", "role": "x", "port": "5432"}]}"#,
            "5432",
        ),
        (
            r#"{"members": [{"name": "n1", "role": "x", "tags": 7}]}"#,
            "map",
        ),
        (r#"{"members": [], "members": []}"#, "duplicate"),
        // What `GET /patroni` answers.
        (
            r#"{"state": "running", "role": "primary", "patroni": {"version": "4.1.5"}}"#,
            "members",
        ),
    ] {
        let error = members(body).unwrap_err();
        assert!(matches!(error, MembersError::Shape { .. }), "{error}");
        assert!(error.to_string().contains(word), "{body}: {error}");
    }
}

#[test]
fn no_error_is_longer_than_a_screen() {
    let long = "x".repeat(500_000);
    let body = format!(r#"{{"members":[{{"name":7,"{long}":"{long}"}}]}}"#);
    let wrong = format!(r#"{{"members":"{long}"}}"#);
    for body in [body, wrong] {
        let error = members(&body).unwrap_err();
        assert!(format!("{error} {error:?}").len() < 1000, "{error}");
    }
}

#[test]
fn a_hundred_members_are_the_most() {
    let answer = |count: usize| {
        let one = r#"{"name":"n","role":"replica"}"#;
        format!(r#"{{"members":[{}]}}"#, vec![one; count].join(","))
    };
    assert_eq!(members(&answer(100)).unwrap().iter().count(), 100);
    for count in [101, 10_000] {
        let error = members(&answer(count)).unwrap_err();
        assert!(matches!(error, MembersError::TooMany { limit: 100, .. }));
    }
}

#[test]
fn deep_nesting_is_no_danger() {
    let deep = |open: &str, close: &str| {
        let depth = 200_000;
        format!("{}{}", open.repeat(depth), close.repeat(depth))
    };
    let list = deep("[", "]");
    // A key that nobody reads is read over; a tag has a limit.
    assert!(members(&format!(r#"{{"members":[],"x":{list}}}"#)).is_ok());
    let tags = format!(r#"{{"members":[{{"name":"n","role":"r","tags":{{"x":{list}}}}}]}}"#);
    assert!(members(&tags).is_err());
    assert!(members(&list).is_err());
    assert!(members(&deep(r#"{"members":"#, "}")).is_err());
}

fn json() -> impl Strategy<Value = String> {
    let leaf = prop_oneof![
        Just("null".to_owned()),
        any::<bool>().prop_map(|b| b.to_string()),
        any::<i64>().prop_map(|n| n.to_string()),
        any::<f64>().prop_map(|n| n.to_string()),
        any::<String>().prop_map(|text| format!("{text:?}")),
        "[a-z0-9.:/-]{0,20}".prop_map(|text| format!("{text:?}")),
    ];
    leaf.prop_recursive(4, 40, 6, |inner| {
        let key = prop_oneof![
            Just("name"),
            Just("role"),
            Just("state"),
            Just("host"),
            Just("port"),
            Just("tags"),
            Just("api_url"),
            Just("members"),
        ];
        prop_oneof![
            vec(inner.clone(), 0..6).prop_map(|list| format!("[{}]", list.join(","))),
            vec((key, inner), 0..6).prop_map(|pairs| {
                let pairs: Vec<String> = pairs
                    .iter()
                    .map(|(key, value)| format!("{key:?}:{value}"))
                    .collect();
                format!("{{{}}}", pairs.join(","))
            }),
        ]
    })
}

proptest! {
    #[test]
    fn no_bytes_make_it_panic(bytes in vec(any::<u8>(), 0..200)) {
        let _ = Members::parse(&bytes);
    }

    #[test]
    fn no_json_makes_it_panic(value in json()) {
        let _ = members(&value);
        let _ = members(&format!(r#"{{"members":[{value}]}}"#));
        let _ = members(&format!(r#"{{"members":[{{"name":"n","role":"r","tags":{value}}}]}}"#));
    }

    #[test]
    fn no_damage_makes_it_panic(
        answer in 0..TRUE_ANSWERS.len(),
        at in any::<prop::sample::Index>(),
        byte in option::of(any::<u8>()),
    ) {
        let mut body = TRUE_ANSWERS[answer].to_vec();
        let at = at.index(body.len());
        match byte {
            Some(byte) => body[at] = byte,
            None => body.truncate(at),
        }
        if let Ok(members) = Members::parse(&body) {
            for member in members.iter() {
                prop_assert!(member.addr().is_none_or(|addr| addr.port() != 0));
            }
        }
    }
}
