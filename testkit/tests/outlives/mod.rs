//! What a test that is killed must not leave behind.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{
    io::{BufRead as _, BufReader},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

const VICTIM: &str = "LEADPOOL_TESTKIT_VICTIM";

/// Whether this process is the one to be killed. Its test starts a stack, and then is as good as
/// [`dead`].
pub(crate) fn is_victim() -> bool {
    std::env::var_os(VICTIM).is_some()
}

/// Tells the stack's folder and waits to be killed.
pub(crate) async fn dead(dir: &Path) {
    println!("dir={}", dir.display());
    std::future::pending::<()>().await;
}

/// A process that runs one test of this program, up to [`dead`].
pub(crate) struct Victim {
    child: Child,
    pub(crate) dir: PathBuf,
}

impl Victim {
    pub(crate) fn start(test: &str) -> Self {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", test, "--nocapture"])
            .env(VICTIM, "1")
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let dir = BufReader::new(child.stdout.take().unwrap())
            .lines()
            .map_while(Result::ok)
            .find_map(|line| line.split("dir=").nth(1).map(PathBuf::from))
            .expect("the victim told its folder");
        Self { child, dir }
    }

    /// Kills it, and waits until no process and no file of its stack is left.
    pub(crate) fn kill(mut self) {
        let before = processes(&self.dir);
        assert!(!before.is_empty(), "the stack runs");
        self.child.kill().unwrap();
        self.child.wait().unwrap();
        let begun = Instant::now();
        while !processes(&self.dir).is_empty() || self.dir.exists() {
            let left = processes(&self.dir);
            assert!(begun.elapsed() < Duration::from_secs(20), "left: {left:?}");
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

/// The command lines of all processes that work below a folder, or were told of it. The guardian
/// is none of them.
pub(crate) fn processes(dir: &Path) -> Vec<String> {
    let entries = std::fs::read_dir("/proc").unwrap().flatten();
    let told = |line: &str| line.contains(&*dir.to_string_lossy()) && !line.contains("trap ''");
    entries
        .filter_map(|entry| {
            let line = std::fs::read(entry.path().join("cmdline")).ok()?;
            let line = String::from_utf8_lossy(&line).replace('\0', " ");
            let cwd = std::fs::read_link(entry.path().join("cwd")).ok()?;
            (cwd.starts_with(dir) || told(&line)).then_some(line)
        })
        .collect()
}
