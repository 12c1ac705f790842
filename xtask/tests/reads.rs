//! Reading one's own writes, short.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::process::Command;

#[test]
fn a_few_hundred_reads_show_what_was_just_written() {
    let output = Command::new(env!("CARGO_BIN_EXE_xtask"))
        .args(["reads", "--pairs", "400", "--workers", "8"])
        .output()
        .unwrap();
    let printed = String::from_utf8_lossy(&output.stdout);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{printed}\n{errors}");
    let rows = printed.lines().filter(|line| line.contains("| 400 | 0 |"));
    let drivers = if cfg!(feature = "diesel-blocking") {
        4
    } else {
        3
    };
    assert_eq!(rows.count(), drivers, "{printed}");
}
