//! The soak, short: in a process of its own, since it counts what a process holds.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::process::Command;

#[test]
fn nothing_is_left_of_a_few_hundred_connections() {
    if !std::path::Path::new("/proc/self/fd").exists() {
        eprintln!("skipped: the soak reads /proc");
        return;
    }
    let output = Command::new(env!("CARGO_BIN_EXE_xtask"))
        .args(["soak", "--connects", "400"])
        .output()
        .unwrap();
    let printed = String::from_utf8_lossy(&output.stdout);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{printed}\n{errors}");
    assert!(printed.contains("nothing is left behind"), "{printed}");
}
