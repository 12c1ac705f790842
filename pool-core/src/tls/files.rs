//! The files as they were last read, and whether they have changed since.

use std::{
    fmt, fs, io,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
    time::SystemTime,
};

use arc_swap::ArcSwap;
use tokio_rustls::rustls::ClientConfig;

use super::Plan;
use crate::traces::rows;

/// What is wrong with a file, and with which key it was named. Nothing that it holds is told.
#[derive(Debug)]
pub(crate) struct FileProblem {
    pub(crate) key: &'static str,
    pub(crate) problem: String,
}

impl FileProblem {
    pub(super) fn new(key: &'static str, problem: impl Into<String>) -> Self {
        Self {
            key,
            problem: problem.into(),
        }
    }

    pub(super) fn of(key: &'static str, path: &Path, problem: &str) -> Self {
        Self::new(key, format!("`{}` {problem}", path.display()))
    }

    pub(super) fn of_io(key: &'static str, path: &Path, error: &io::Error) -> Self {
        Self::of(key, path, &format!("can't be read: {error}"))
    }
}

/// Reads one file. Devices and pipes are none: reading them might never end.
pub(super) fn read(key: &'static str, path: &Path) -> Result<Vec<u8>, FileProblem> {
    const LARGEST: u64 = 64 << 20;
    let failed = |error: io::Error| FileProblem::of_io(key, path, &error);
    let metadata = fs::metadata(path).map_err(failed)?;
    if !metadata.is_file() {
        return Err(FileProblem::of(key, path, "is no file"));
    }
    if metadata.len() > LARGEST {
        return Err(FileProblem::of(key, path, "is larger than 64 MiB"));
    }
    fs::read(path).map_err(failed)
}

/// What TLS is made of: read when the configuration is built, and again once it has changed.
pub(crate) struct Files {
    plan: Plan,
    current: ArcSwap<Reading>,
    /// The state of the files that could not be used, so that it is told of once.
    refused: Mutex<Option<Stamps>>,
}

struct Reading {
    stamps: Stamps,
    config: Arc<ClientConfig>,
}

impl Files {
    /// Reads them. Blocks.
    pub(crate) fn new(plan: Plan) -> Result<Self, FileProblem> {
        // Before reading: what changes in between is read again.
        let stamps = stamps(&plan);
        let config = Arc::new(plan.read()?);
        Ok(Self {
            plan,
            current: ArcSwap::from_pointee(Reading { stamps, config }),
            refused: Mutex::new(None),
        })
    }

    /// Which files there are.
    pub(crate) fn plan(&self) -> &Plan {
        &self.plan
    }

    /// What was last read and usable.
    pub(crate) fn config(&self) -> Arc<ClientConfig> {
        self.current.load().config.clone()
    }

    /// Looks whether they have changed, and reads them then. New ones that can't be used change
    /// nothing: it goes on with what it has, and says so in the log. Half of a renewal is such a
    /// state, and so is a mistake; the connections that are needed meanwhile would fail for it.
    ///
    /// # Cancel safety
    ///
    /// A look that has begun goes on, in a thread for what blocks.
    pub(crate) async fn refresh(self: &Arc<Self>) {
        if !self.plan.has_files() {
            return;
        }
        let files = self.clone();
        // It fails only with the runtime.
        let _ = tokio::task::spawn_blocking(move || files.look()).await;
    }

    fn look(&self) {
        let stamps = stamps(&self.plan);
        if stamps == self.current.load().stamps {
            return;
        }
        let mut refused = self.refused.lock().unwrap_or_else(PoisonError::into_inner);
        if refused.as_ref() == Some(&stamps) {
            return;
        }
        match self.plan.read() {
            Ok(config) => {
                tracing::event!(
                    name: rows::CERTIFICATES_READ.name,
                    target: rows::CERTIFICATES_READ.target,
                    rows::CERTIFICATES_READ.level,
                    "certificates were read again"
                );
                let config = Arc::new(config);
                self.current.store(Arc::new(Reading { stamps, config }));
                *refused = None;
            }
            Err(FileProblem { key, problem }) => {
                tracing::event!(
                    name: rows::CERTIFICATES_REFUSED.name,
                    target: rows::CERTIFICATES_REFUSED.target,
                    rows::CERTIFICATES_REFUSED.level,
                    { leadpool.setting = key, leadpool.problem = problem },
                    "new certificates can't be used; going on with the ones before"
                );
                *refused = Some(stamps);
            }
        }
    }
}

impl fmt::Debug for Files {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Files").field(&self.plan).finish()
    }
}

type Stamps = Vec<(PathBuf, Option<Stamp>)>;

fn stamps(plan: &Plan) -> Stamps {
    let paths = plan.paths().into_iter();
    paths.map(|path| (path.clone(), Stamp::of(&path))).collect()
}

/// Changes whenever a file is written, replaced, or made readable.
#[derive(PartialEq, Eq)]
struct Stamp {
    modified: Option<SystemTime>,
    length: u64,
    #[cfg(unix)]
    inode: (u64, u64, i64, i64),
}

impl Stamp {
    fn of(path: &Path) -> Option<Self> {
        #[cfg(unix)]
        use std::os::unix::fs::MetadataExt as _;

        let metadata = fs::metadata(path).ok()?;
        Some(Self {
            modified: metadata.modified().ok(),
            length: metadata.len(),
            #[cfg(unix)]
            inode: (
                metadata.dev(),
                metadata.ino(),
                metadata.ctime(),
                metadata.ctime_nsec(),
            ),
        })
    }
}
