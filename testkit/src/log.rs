//! What a program prints goes to a file, and its end into errors.

use std::{
    fs,
    io::{Read as _, Seek as _, SeekFrom},
    path::Path,
    process::{Command, Stdio},
};

use crate::Error;

/// Appends what the command prints to a file.
pub(crate) fn write_to(command: &mut Command, log: &Path) -> Result<(), Error> {
    let file = fs::OpenOptions::new()
        .create(true)
        .append(true)
        .open(log)
        .map_err(Error::io(log.display().to_string()))?;
    let errors = file.try_clone().map_err(Error::io("the log"))?;
    command
        .stdout(Stdio::from(file))
        .stderr(Stdio::from(errors));
    Ok(())
}

/// What was printed from that byte on.
pub(crate) fn since(log: &Path, offset: u64) -> String {
    let mut text = Vec::new();
    if let Ok(mut log) = fs::File::open(log) {
        // An unreadable log is an empty one: it only explains.
        let _ = log.seek(SeekFrom::Start(offset));
        let _ = log.read_to_end(&mut text);
    }
    String::from_utf8_lossy(&text).into_owned()
}

/// The last lines.
pub(crate) fn tail(log: &Path) -> String {
    let text = since(log, 0);
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(8)..].join(" | ")
}
