//! The demo, short.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::process::Command;

use serde_json::Value;

#[test]
fn an_application_on_sqlx_goes_on_working_through_all_faults() {
    goes_on_working("sqlx");
}

#[cfg(feature = "diesel-blocking")]
#[test]
fn a_synchronous_application_on_diesel_goes_on_working_through_all_faults() {
    goes_on_working("diesel-blocking");
}

fn goes_on_working(driver: &str) {
    let output = Command::new(env!("CARGO_BIN_EXE_xtask"))
        .args(["demo", "--driver", driver, "--workers", "4", "--readers"])
        .args(["2", "--hold-seconds", "1", "--json"])
        .output()
        .unwrap();
    let printed = String::from_utf8_lossy(&output.stdout);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{printed}\n{errors}");
    let report: Value = serde_json::from_str(printed.lines().last().unwrap()).unwrap();
    for count in ["errors", "lost", "duplicated"] {
        assert_eq!(report[count], 0, "{count}: {printed}");
    }
    assert!(report["reads"].as_u64().unwrap() > 0, "{printed}");
    let faults = report["faults"].as_array().unwrap();
    assert_eq!(faults.len(), 3, "{printed}");
    for fault in faults {
        assert!(fault["client_added_ms"].is_number(), "{printed}");
    }
}
