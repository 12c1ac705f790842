//! Both web crates have the same features, by one table.

use std::{fs, path::Path};

/// The tables of a README, without what differs between the frameworks.
fn tables(krate: &str) -> Vec<String> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(krate);
    let readme = fs::read_to_string(folder.join("README.md")).unwrap();
    let rows = readme.lines().filter(|line| line.starts_with('|'));
    rows.map(str::to_owned).collect()
}

#[test]
fn the_readmes_have_the_same_tables() {
    let axum = tables("pool-axum");
    assert!(axum.len() > 25, "{axum:#?}");
    assert_eq!(axum, tables("pool-actix"));
}

#[test]
fn the_crates_export_the_same() {
    let names = |krate: &str| {
        let lib = Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(krate);
        let lib = fs::read_to_string(lib.join("src/lib.rs")).unwrap();
        lib.split_once("pub use").unwrap().1.to_owned()
    };
    assert_eq!(names("pool-axum"), names("pool-actix"));
}
