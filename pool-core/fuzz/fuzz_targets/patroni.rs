//! Answers of Patroni's `GET /cluster`.

#![no_main]

use leadpool::discovery::patroni::Members;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|body: &[u8]| {
    let Ok(members) = Members::parse(body) else {
        return;
    };
    let mut count = 0;
    for member in members.iter() {
        count += 1;
        if let Some(addr) = member.addr() {
            assert!(!addr.name().is_empty() && addr.port() != 0);
            assert!(addr.name().len() <= 253, "{}", addr.name());
        }
        assert!(!(member.is_leader() && member.role() == "standby_leader"));
        // Whatever is in it, it can be asked for.
        let _ = (member.zone("az"), member.api_url(), member.is_not_for_reading());
    }
    assert!(count <= 100);
    if let Some(leader) = members.leader() {
        assert!(leader.is_leader());
    }
});
