//! The line that shows what is going on.

use std::{
    io::{IsTerminal as _, Write as _},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use tokio::task::JoinHandle;

/// Prints to standard error: one line that changes on a terminal, else one line a stage.
pub(crate) struct Live {
    name: &'static str,
    stage: Arc<Mutex<String>>,
    task: Mutex<Option<JoinHandle<()>>>,
    terminal: bool,
}

impl Live {
    pub(crate) fn new(name: &'static str) -> Self {
        Self {
            name,
            stage: Arc::default(),
            task: Mutex::new(None),
            terminal: std::io::stderr().is_terminal(),
        }
    }

    pub(crate) fn stage(&self, stage: &str) {
        stage.clone_into(&mut self.stage.lock().unwrap_or_else(PoisonError::into_inner));
        if !self.terminal {
            eprintln!("[{}] {stage}", self.name);
        }
    }

    /// Begins to show the progress, as it is told.
    pub(crate) fn watch(&self, progress: impl Fn() -> String + Send + 'static) {
        if !self.terminal {
            return;
        }
        let (name, stage) = (self.name, self.stage.clone());
        #[expect(
            clippy::disallowed_methods,
            reason = "owned by `Live`, which aborts it"
        )]
        let task = tokio::spawn(async move {
            loop {
                tokio::time::sleep(Duration::from_millis(100)).await;
                let stage = stage.lock().unwrap_or_else(PoisonError::into_inner).clone();
                eprint!("\r\x1b[K[{name}] {stage} | {}", progress());
                // A terminal that is gone is no reason to stop.
                let _ = std::io::stderr().flush();
            }
        });
        *self.task.lock().unwrap_or_else(PoisonError::into_inner) = Some(task);
    }

    pub(crate) fn end(&self) {
        let task = self
            .task
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        if let Some(task) = task {
            task.abort();
            eprintln!("\r\x1b[K");
        }
    }
}

impl Drop for Live {
    fn drop(&mut self) {
        self.end();
    }
}
