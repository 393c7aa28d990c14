//! Blocking forms of the poll methods: park the thread until its waker unparks it.

use std::{
    sync::Arc,
    task::{Context, Poll, Wake, Waker},
};

use crate::sync::thread::{self, Thread};

struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.0.unpark();
    }
}

/// Call `poll` until it is ready, parking the thread in between.
pub(crate) fn wait<T>(mut poll: impl FnMut(&mut Context<'_>) -> Poll<T>) -> T {
    let waker = Waker::from(Arc::new(Unpark(thread::current())));
    let mut cx = Context::from_waker(&waker);
    loop {
        match poll(&mut cx) {
            Poll::Ready(value) => return value,
            // An unpark between the poll and here makes the next park return at once.
            Poll::Pending => thread::park(),
        }
    }
}
