//! The command, with a small fleet.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{fs, process::Command};

#[test]
fn it_writes_the_page_and_its_plots() {
    let folder = tempfile::tempdir().unwrap();
    let output = Command::new(env!("CARGO_BIN_EXE_xtask"))
        .args(["scale", "--clients", "10", "--out"])
        .arg(folder.path())
        .output()
        .unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{errors}");
    let page = fs::read_to_string(folder.path().join("scale.md")).unwrap();
    assert!(page.contains("cargo xtask scale --seed 1 --clients 10"));
    let plots = page.split("](").filter_map(|part| part.split_once(".svg)"));
    let mut count = 0;
    for (name, _) in plots {
        let plot = fs::read_to_string(folder.path().join(format!("{name}.svg"))).unwrap();
        assert!(plot.starts_with("<svg") && plot.contains("10 clients") || name != "scale-served");
        count += 1;
    }
    assert_eq!(count, 4);
}
