//! Which closures `run_tx` takes, and what the compiler says about the others.
//!
//! Each file in `closures/refused` must not compile, and its compiler must say every line of the file
//! of the same name that ends in `.said`.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::Command,
};

#[path = "closures/accepted.rs"]
mod accepted;

#[test]
fn the_compiler_says_what_to_do() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/closures/refused");
    let files = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path());
    let mut refused = 0;
    for file in files.filter(|path| path.extension().is_some_and(|end| end == "rs")) {
        let said = compile(&file).unwrap_err();
        for line in fs::read_to_string(file.with_extension("said"))
            .unwrap()
            .lines()
        {
            assert!(said.contains(line), "{line:?} is not in\n{said}");
        }
        refused += 1;
    }
    assert_eq!(refused, 4);
}

/// Else the refusals above might have other reasons.
#[test]
fn what_is_right_compiles_in_the_same_way() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("right.rs");
    let text = "pub async fn f(pool: &leadpool::Pool) -> Result<u64, leadpool::Error> {
        pool.run_tx(|tx| async move { Ok(tx.execute(\"SELECT 1\", &[]).await?) }).await
    }";
    fs::write(&file, text).unwrap();
    compile(&file).unwrap();
}

/// Checks one file against the library that this test is linked with. All that it needs has been
/// built already, so nothing is built for it.
fn compile(file: &Path) -> Result<(), String> {
    let deps = env::current_exe().unwrap().parent().unwrap().to_owned();
    let library = |name: &str| {
        let extern_ = newest(&deps, &format!("lib{name}-"));
        format!("{name}={}", extern_.display())
    };
    let rustc = env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let out = tempfile::tempdir().unwrap();
    let ended = Command::new(rustc)
        .args(["--edition=2024", "--crate-type=lib", "--emit=metadata"])
        .args(["--color=never", "--allow=warnings", "-L"])
        .arg(format!("dependency={}", deps.display()))
        .args(["--extern", &library("leadpool")])
        .arg("--out-dir")
        .arg(out.path())
        .arg(file)
        .output()
        .unwrap();
    match ended.status.success() {
        true => Ok(()),
        false => Err(String::from_utf8_lossy(&ended.stderr).into_owned()),
    }
}

/// There are others of earlier builds.
fn newest(deps: &Path, prefix: &str) -> PathBuf {
    let files = fs::read_dir(deps).unwrap().map(|entry| entry.unwrap());
    files
        .filter(|file| {
            let name = file.file_name().into_string().unwrap();
            name.starts_with(prefix) && name.ends_with(".rlib")
        })
        .max_by_key(|file| file.metadata().unwrap().modified().unwrap())
        .unwrap()
        .path()
}
