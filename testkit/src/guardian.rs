//! Sees to it that no server outlives its test.

use std::{
    os::unix::process::CommandExt as _,
    path::Path,
    process::{Child, Command, Stdio},
};

use crate::Error;

/// Waits for the end of its input, which comes when the test closes the pipe or dies, by whatever
/// signal. Then it kills every process that works below the folder, stopped ones included, until
/// there is none: all from one listing, since a program for each process is slow. It frees the
/// segments of shared memory that killed servers leave and the semaphores of `pg_autoctl`, deletes
/// the network namespaces that are named after the folder, and removes the folder.
const SCRIPT: &str = r#"
trap '' HUP INT TERM
while read -r _; do :; done
for round in 1 2 3 4 5 6 7 8 9 10; do
  if [ -d /proc/self ]; then
    found=$(LC_ALL=C ls -ld /proc/[0-9]*/cwd 2>/dev/null |
      while read -r _ _ _ _ _ _ _ _ link _ cwd; do
        case "$cwd" in
          "$0"/*) link=${link#/proc/}; kill -9 "${link%/cwd}" 2>/dev/null; echo "$link" ;;
        esac
      done)
    [ -z "$found" ] && break
  else
    pkill -9 -f "$0" 2>/dev/null
  fi
done
for pidfile in "$0"/*/postmaster.pid; do
  [ -f "$pidfile" ] && ipcrm -m "$(awk 'NR == 7 { print $2 }' "$pidfile")" 2>/dev/null
done
find "$0" -name pg_autoctl.pid 2>/dev/null | while read -r pidfile; do
  ipcrm -s "$(awk 'NR == 5' "$pidfile")" 2>/dev/null
done
for namespace in /run/netns/"${0##*/}"-*; do
  [ -e "$namespace" ] && ip netns delete "${namespace##*/}" 2>/dev/null
done
rm -rf "$0"
"#;

/// A process that cleans up after this one. Its input is never written to: it ends when the last
/// holder of the pipe is gone.
#[derive(Debug)]
pub(crate) struct Guardian {
    child: Child,
}

impl Guardian {
    pub(crate) fn start(dir: &Path) -> Result<Self, Error> {
        let child = Command::new("sh")
            .args(["-c", SCRIPT])
            .arg(dir)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .current_dir("/")
            // A Ctrl-C at the terminal is for the test, not for its guardian.
            .process_group(0)
            .spawn()
            .map_err(Error::io("starting the guardian"))?;
        Ok(Self { child })
    }
}

impl Drop for Guardian {
    fn drop(&mut self) {
        drop(self.child.stdin.take());
        // It has nothing to report; waiting only keeps it from becoming a zombie.
        let _ = self.child.wait();
    }
}
