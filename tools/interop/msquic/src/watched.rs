//! A state that msquic's callbacks change and threads wait on.

use std::sync::{Condvar, Mutex};

#[derive(Default)]
pub struct Watched<T> {
    state: Mutex<T>,
    news: Condvar,
}

impl<T> Watched<T> {
    pub fn change(&self, how: impl FnOnce(&mut T)) {
        how(&mut self.state.lock().expect("no thread panics with the lock"));
        self.news.notify_all();
    }

    pub fn wait<R>(&self, mut found: impl FnMut(&mut T) -> Option<R>) -> R {
        let mut state = self.state.lock().expect("no thread panics with the lock");
        loop {
            if let Some(what) = found(&mut state) {
                return what;
            }
            state = self
                .news
                .wait(state)
                .expect("no thread panics with the lock");
        }
    }
}
