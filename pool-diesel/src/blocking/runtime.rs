//! A runtime for the monitor of a synchronous application.

use std::{io, thread};

use tokio::{
    runtime::{self, Handle},
    task::coop::unconstrained,
};

/// One thread, in which everything runs that does not block. It ends with this, without waiting for
/// what is under way there.
pub(super) struct Runtime(Option<runtime::Runtime>);

impl Runtime {
    pub(super) fn new() -> io::Result<Self> {
        let runtime = runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .thread_name("leadpool")
            .enable_all()
            .build()?;
        Ok(Self(Some(runtime)))
    }

    fn handle(&self) -> &Handle {
        let runtime = self.0.as_ref();
        runtime
            .expect("invariant: the runtime leaves only in `drop`")
            .handle()
    }

    /// Begins something in the runtime's thread, and says how it ends; `None` if the runtime does
    /// first.
    ///
    /// Nothing of Tokio's is used in the caller's thread but the handle of a task. So a caller may
    /// be a thread of another runtime, which it blocks then, as diesel does too.
    pub(super) fn begin<T: Send + 'static>(
        &self,
        future: impl Future<Output = T> + Send + 'static,
    ) -> impl FnOnce() -> Option<T> {
        let task = self.handle().spawn(future);
        move || match pollster::block_on(unconstrained(task)) {
            Ok(ended) => Some(ended),
            Err(error) => match error.try_into_panic() {
                Ok(panic) if !thread::panicking() => std::panic::resume_unwind(panic),
                _ => None,
            },
        }
    }

    /// The same, waited for.
    pub(super) fn run<T: Send + 'static>(
        &self,
        future: impl Future<Output = T> + Send + 'static,
    ) -> Option<T> {
        self.begin(future)()
    }
}

impl Drop for Runtime {
    fn drop(&mut self) {
        if let Some(runtime) = self.0.take() {
            runtime.shutdown_background();
        }
    }
}
