//! What servers leave behind, if nobody cleans up.

use std::{
    collections::BTreeSet,
    fs::{self, DirEntry},
    path::{Path, PathBuf},
};

/// Everything outside of its folder that a running cluster holds, to be looked for later.
pub(crate) struct Traces {
    dir: PathBuf,
    /// System V segments.
    segments: BTreeSet<String>,
    /// Files of dynamic shared memory.
    mapped: BTreeSet<PathBuf>,
}

impl Traces {
    /// Of the running cluster with that many servers in a folder.
    pub(crate) fn of(dir: &Path, servers: usize) -> Self {
        let folders = fs::read_dir(dir).unwrap().flatten();
        let segments: BTreeSet<String> = folders.filter_map(segment).collect();
        assert_eq!(segments.len(), servers, "each server holds a segment");
        let processes = processes_below(dir);
        assert!(processes.len() > servers, "the servers run");
        let mapped: BTreeSet<PathBuf> = processes
            .iter()
            .flat_map(|process| mapped(process))
            .collect();
        assert!(mapped.len() >= servers, "each server maps dynamic memory");
        Self {
            dir: dir.to_owned(),
            segments,
            mapped,
        }
    }

    /// Network namespaces.
    pub(crate) fn namespaces(&self) -> Vec<String> {
        let prefix = format!("{}-", self.dir.file_name().unwrap().to_string_lossy());
        let all = fs::read_dir("/run/netns").into_iter().flatten().flatten();
        all.map(|entry| entry.file_name().to_string_lossy().into_owned())
            .filter(|name| name.starts_with(&prefix))
            .collect()
    }

    /// What there is still, in words.
    pub(crate) fn found(&self) -> Vec<String> {
        let mut found = self.namespaces();
        let processes = processes_below(&self.dir);
        if !processes.is_empty() {
            found.push(format!("processes {processes:?}"));
        }
        let files = self.mapped.iter().chain([&self.dir]);
        let files = files.filter(|file| file.exists());
        found.extend(files.map(|file| file.display().to_string()));
        let all = fs::read_to_string("/proc/sysvipc/shm").unwrap_or_default();
        let ids = all
            .lines()
            .filter_map(|line| line.split_whitespace().nth(1));
        let ours = ids.filter(|id| self.segments.contains(*id));
        found.extend(ours.map(|id| format!("segment {id}")));
        found
    }
}

/// The System V segment of the server in a data folder.
fn segment(folder: DirEntry) -> Option<String> {
    let lock_file = fs::read_to_string(folder.path().join("postmaster.pid")).ok()?;
    let line = lock_file.lines().nth(6)?;
    Some(line.split_whitespace().nth(1)?.to_owned())
}

/// In the form `/proc/123`.
fn processes_below(dir: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir("/proc").unwrap().flatten();
    let below = |process: &PathBuf| {
        let cwd = fs::read_link(process.join("cwd"));
        cwd.is_ok_and(|cwd| cwd.starts_with(dir))
    };
    entries.map(|entry| entry.path()).filter(below).collect()
}

/// The files of dynamic shared memory that a process has mapped, wherever they are.
fn mapped(process: &Path) -> Vec<PathBuf> {
    let maps = fs::read_to_string(process.join("maps")).unwrap_or_default();
    maps.lines()
        .filter_map(|line| line.split_whitespace().nth(5))
        .filter(|file| file.contains("/PostgreSQL.") || file.contains("/pg_dynshmem/"))
        .map(PathBuf::from)
        .collect()
}
