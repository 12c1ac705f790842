//! The order of the modules: each knows those above it only, and the state machine knows neither
//! clock nor socket nor task.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{
    fs,
    path::{Path, PathBuf},
};

/// As ARCHITECTURE.md explains it.
const ORDER: [&str; 22] = [
    "traces",
    "topology",
    "outcome",
    "consistency",
    "routing",
    "tls",
    "credentials",
    "config",
    "failover",
    "error",
    "connect",
    "session",
    "observe",
    "discovery",
    "monitor",
    "pool",
    "tx",
    "native",
    "adapter",
    "shutdown",
    "web",
    "manual",
];

/// What makes code impure, or asynchronous.
const IMPURE: [&str; 9] = [
    "tokio",
    "async",
    "await",
    "Instant",
    "SystemTime",
    "std::net",
    "std::thread",
    "fastrand",
    "std::env",
];

fn source() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("src")
}

fn files(module: &str) -> Vec<PathBuf> {
    let mut folders = vec![source().join(module)];
    let mut files = Vec::new();
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                files.push(path);
            }
        }
    }
    files
}

/// A file without comments, documentation and unit tests.
fn code(path: &Path) -> String {
    let text = fs::read_to_string(path).unwrap();
    let text = text.split("#[cfg(test)]").next().unwrap();
    text.lines()
        .filter(|line| !line.trim_start().starts_with("//"))
        .map(|line| format!("{line}\n"))
        .collect()
}

/// The modules of this crate that a file names: `crate::x` and `crate::{x::.., y::..}`.
fn imports(code: &str) -> Vec<String> {
    let mut found = Vec::new();
    let word = |text: &str| -> String {
        text.trim_start()
            .chars()
            .take_while(|c| c.is_alphanumeric() || *c == '_')
            .collect()
    };
    for (at, name) in code.match_indices("crate::") {
        let rest = &code[at + name.len()..];
        let Some(group) = rest.strip_prefix('{') else {
            found.push(word(rest));
            continue;
        };
        let mut depth = 1;
        let mut start = 0;
        for (at, c) in group.char_indices() {
            match c {
                '{' => depth += 1,
                '}' => depth -= 1,
                _ => {}
            }
            if depth == 0 || (depth == 1 && c == ',') {
                found.push(word(&group[start..at]));
                start = at + 1;
            }
            if depth == 0 {
                break;
            }
        }
    }
    found.retain(|name| !name.is_empty());
    found
}

#[test]
fn every_module_is_in_the_order() {
    let mut modules: Vec<String> = fs::read_dir(source())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| name != "lib.rs")
        .collect();
    modules.sort();
    let mut order = ORDER;
    order.sort_unstable();
    assert_eq!(modules, order);
}

#[test]
fn imports_go_one_way() {
    for (at, module) in ORDER.iter().enumerate() {
        for file in files(module) {
            for import in imports(&code(&file)) {
                assert!(
                    ORDER[..=at].contains(&import.as_str()),
                    "{} uses `{import}`, which comes after {module}",
                    file.display()
                );
            }
        }
    }
}

#[test]
fn the_state_machine_is_pure() {
    for module in ["topology", "failover", "outcome", "consistency"] {
        for file in files(module) {
            let code = code(&file);
            for word in IMPURE {
                assert!(!code.contains(word), "{} uses {word}", file.display());
            }
        }
    }
}

#[test]
fn files_stay_readable() {
    for module in ORDER {
        for file in files(module) {
            let lines = fs::read_to_string(&file).unwrap().lines().count();
            assert!(
                lines <= 500,
                "{} has {lines} lines: does it have one job?",
                file.display()
            );
        }
    }
}
