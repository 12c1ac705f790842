//! AWS host names and patterns of host names. The first line is the name or the pattern, the rest
//! is an instance's id, as a server may send it.

#![no_main]

use std::net::IpAddr;

use leadpool::{
    HostAddr,
    config::{AwsEndpoint, EndpointKind, HostPattern, InstancePattern},
};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    let (text, id) = text.split_once('\n').unwrap_or((text, "inst-1"));
    if let Some(endpoint) = AwsEndpoint::recognize(text) {
        check_endpoint(text, &endpoint, id);
    }
    if let Ok(pattern) = InstancePattern::parse(text) {
        check_pattern(&pattern, id);
    }
    if let Ok(pattern) = text.parse::<HostPattern>() {
        assert_eq!(pattern.to_string().parse(), Ok(pattern.clone()));
        // However they fit, it ends.
        let _ = pattern.matches(&HostAddr::new(id, 5432));
    }
});

fn check_endpoint(host: &str, endpoint: &AwsEndpoint, id: &str) {
    let bare = host.strip_suffix('.').unwrap_or(host).to_ascii_lowercase();
    for same in [bare.to_ascii_uppercase(), format!("{bare}.")] {
        assert_eq!(AwsEndpoint::recognize(&same).as_ref(), Some(endpoint));
    }
    assert!(is_host_name(&bare));
    let rest = bare.strip_prefix(endpoint.name()).expect("its name");
    assert!(rest.starts_with('.') && rest.contains(endpoint.id()));
    assert!(endpoint.region().is_none_or(|region| rest.contains(region)));
    let is_global = endpoint.kind() == EndpointKind::Global;
    assert_eq!(endpoint.region().is_none(), is_global);
    assert!(!(endpoint.is_green() && endpoint.is_old()));

    let Some(pattern) = endpoint.instance_pattern() else {
        assert_eq!(endpoint.instance_host(id), None);
        return;
    };
    let pattern = InstancePattern::parse(&pattern).expect("a pattern");
    let made = pattern.host(id).ok().map(|(host, _)| host);
    assert_eq!(endpoint.instance_host(id), made);
    let Some(made) = made else { return };
    let instance = AwsEndpoint::recognize(&made).expect("an instance");
    assert_eq!(instance.kind(), EndpointKind::Instance);
    assert_eq!(instance.name(), id.to_ascii_lowercase());
    assert_eq!(instance.id(), endpoint.id());
    assert_eq!(instance.region(), endpoint.region());
}

fn check_pattern(pattern: &InstancePattern, id: &str) {
    let text = pattern.to_string();
    assert_eq!(InstancePattern::parse(&text).as_ref(), Ok(pattern));
    let Ok((host, port)) = pattern.host(id) else {
        return;
    };
    let end = port.map(|port| format!(":{port}")).unwrap_or_default();
    let (before, after) = text.split_once('?').expect("a placeholder");
    let after = after.strip_suffix(&end).expect("the port");
    assert_eq!(host, format!("{before}{}{after}", id.to_ascii_lowercase()));
    assert_eq!(host.split('.').count(), text.split('.').count());
    // The domain, at least, is the pattern's.
    assert!(after.contains('.') && is_host_name(&host));
    assert_ne!(port, Some(0));
    assert!(host.parse::<IpAddr>().is_err());
    let last = host.rsplit('.').next().unwrap_or_default();
    assert!(!last.bytes().all(|b| b.is_ascii_digit()));
}

fn is_host_name(name: &str) -> bool {
    name.len() <= 253
        && name.split('.').all(|label| {
            let plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b"-_".contains(&b);
            (1..=63).contains(&label.len())
                && label.bytes().all(plain)
                && !label.starts_with('-')
                && !label.ends_with('-')
        })
}
