//! Telling what comes from the network from what the application sends.
//!
//! The task of a connection is woken for both, and the driver keeps to itself for which: answers
//! go straight to who waits for them. But where the wake comes from tells. The application wakes
//! the connection from one of its own tasks. The runtime does when the socket has become ready,
//! outside of all tasks; there the current task's id is the thread's own. Which that is shows when
//! a timer wakes the monitor, since nobody but the runtime wakes for a timer.
//!
//! All of that holds for the threads of a multi-thread runtime. In a current-thread runtime the
//! future that it was started with is no task either and can't be told from the runtime, so
//! nothing is concluded there. Wherever it is not certain, no sign of life is noted.

use std::{
    cell::Cell,
    future::poll_fn,
    pin::pin,
    sync::Arc,
    task::{Context, Wake, Waker},
};

use futures_util::task::AtomicWaker;
use tokio::{
    runtime::{Handle, RuntimeFlavor},
    task::{self, Id},
    time::{Instant, sleep_until},
};

use super::Pulse;

thread_local! {
    /// What the current task's id is on this thread while it runs no task of anybody.
    static OWN: Cell<Option<Id>> = const { Cell::new(None) };
}

fn is_told_apart() -> bool {
    Handle::current().runtime_flavor() == RuntimeFlavor::MultiThread
}

/// Notes a sign of life whenever the network wakes a connection's task.
pub(crate) struct Wakes {
    line: Arc<Line>,
    waker: Waker,
}

struct Line {
    task: AtomicWaker,
    pulse: Arc<Pulse>,
    is_told_apart: bool,
}

impl Wakes {
    /// Must be made where the connection's task runs.
    pub(crate) fn new(pulse: &Arc<Pulse>) -> Self {
        let line = Arc::new(Line {
            task: AtomicWaker::new(),
            pulse: pulse.clone(),
            is_told_apart: is_told_apart(),
        });
        Self {
            waker: Waker::from(line.clone()),
            line,
        }
    }

    /// What the connection is to be polled with, in place of its task's own.
    pub(crate) fn context(&self, cx: &Context<'_>) -> Context<'_> {
        self.line.task.register(cx.waker());
        Context::from_waker(&self.waker)
    }
}

impl Wake for Line {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        if self.is_told_apart {
            let own = OWN.get();
            if own.is_some() && own == task::try_id() {
                self.pulse.beat();
            }
        }
        self.task.wake();
    }
}

/// A sleeper that learns from each timer which id is the thread's own.
#[derive(Debug, Default)]
pub(super) struct Sleeper(Arc<Clock>);

#[derive(Debug, Default)]
struct Clock(AtomicWaker);

impl Sleeper {
    pub(super) async fn sleep_until(&self, at: Instant) {
        let waker = Waker::from(self.0.clone());
        let learns = is_told_apart();
        let mut sleep = pin!(sleep_until(at));
        poll_fn(|cx| {
            if !learns {
                return sleep.as_mut().poll(cx);
            }
            self.0.0.register(cx.waker());
            sleep.as_mut().poll(&mut Context::from_waker(&waker))
        })
        .await;
    }
}

impl Wake for Clock {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        OWN.set(task::try_id());
        self.0.wake();
    }
}
