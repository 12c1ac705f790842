//! A web application under load while its primary is lost, short.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::process::Command;

use serde_json::Value;

#[test]
fn no_request_fails_while_the_primary_is_lost_and_those_of_others_are_seen_to_fail() {
    let output = Command::new(env!("CARGO_BIN_EXE_xtask"))
        .args(["requests", "--failovers", "2", "--rate", "50"])
        .args(["--hold-seconds", "1", "--compare", "--json"])
        .output()
        .unwrap();
    let printed = String::from_utf8_lossy(&output.stdout);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{printed}\n{errors}");
    let reports: Value = serde_json::from_str(printed.lines().last().unwrap()).unwrap();
    let (ours, plain) = (&reports[0], &reports[1]);
    assert_eq!(ours["failures"], 0, "{printed}");
    for count in ["lost", "doubled", "unacknowledged", "strange"] {
        assert_eq!(ours["notes"][count], 0, "{count}: {printed}");
    }
    for method in ["POST 201", "GET 200"] {
        assert!(ours["answers"][method].as_u64().unwrap() > 0, "{printed}");
    }
    for report in [ours, plain] {
        assert_eq!(report["faults"].as_array().unwrap().len(), 2, "{printed}");
        // Every request that was due was sent, and none is left out of the count.
        assert_eq!(report["unsent"], 0, "{printed}");
        let longest = report["wait_ms"]["max"].as_f64().unwrap();
        for fault in report["faults"].as_array().unwrap() {
            let wait = fault["longest_wait_ms"].as_f64().unwrap();
            assert!(wait > 0.0 && wait <= longest + 1.0, "{printed}");
        }
    }
    // Its host was killed, and was a standby afterwards.
    assert!(plain["failures"].as_u64().unwrap() > 0, "{printed}");
}
