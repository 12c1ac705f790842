//! Where the servers of the tests keep their files.

use std::{fs::Permissions, os::unix::fs::PermissionsExt as _, path::Path, process::Command};

use tempfile::TempDir;

/// In memory, and shared by all.
const IN_MEMORY: &str = "/dev/shm";
/// What there must be left, in KiB: several times what the tests need at once.
const ENOUGH: u64 = 4 << 20;

/// A folder in memory, unless somebody has chosen another one, or there is too little. Servers come
/// and go there several times faster: on ext4, who makes thousands of files where thousands were
/// deleted a moment ago searches long for each.
pub(crate) fn in_memory() -> Option<TempDir> {
    if std::env::var_os("TMPDIR").is_some() || free(Path::new(IN_MEMORY))? < ENOUGH {
        return None;
    }
    tempfile::Builder::new()
        .prefix("leadpool-test-")
        // Servers may run as another user, in folders of their own.
        .permissions(Permissions::from_mode(0o755))
        .tempdir_in(IN_MEMORY)
        .ok()
}

/// How much is left there, in KiB
/// ([POSIX, `df -P`](https://pubs.opengroup.org/onlinepubs/9799919799/utilities/df.html)).
fn free(dir: &Path) -> Option<u64> {
    let output = Command::new("df").arg("-Pk").arg(dir).output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    text.lines().nth(1)?.split_whitespace().nth(3)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_left() {
        assert!(free(Path::new("/")).is_some());
        assert_eq!(free(Path::new("/nowhere/to/be/found")), None);
    }
}
