//! Which of the futures that one task polls was woken.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Wake},
};

use futures_util::task::AtomicWaker;

/// A waker for one of several futures of a task: it wakes the task, and remembers that it was this
/// future which was woken.
pub(crate) struct Awake {
    is_awake: AtomicBool,
    task: AtomicWaker,
}

impl Awake {
    /// Of a future that has not been polled yet.
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Self {
            is_awake: AtomicBool::new(true),
            task: AtomicWaker::new(),
        })
    }

    /// Whether the future has been woken since this was last asked. From now on it wakes the task of
    /// `cx`.
    pub(crate) fn take(&self, cx: &Context<'_>) -> bool {
        self.task.register(cx.waker());
        self.is_awake.swap(false, Ordering::AcqRel)
    }
}

impl Wake for Awake {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.is_awake.store(true, Ordering::Release);
        self.task.wake();
    }
}
