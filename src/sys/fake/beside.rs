//! Processes beside each other: threads of which one runs at a time, in the order in which their waits end.
#![expect(unsafe_code, reason = "what they share is no thread's own, and only one runs")]

use std::boxed::Box;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::thread::JoinHandle;
use std::vec::Vec;

/// Room for a stage with what it borrows.
const STACK_BYTES: usize = 16 << 20;

/// All of them. The first is whoever made this; its number is 0.
#[derive(Clone)]
pub struct Beside(Arc<(Mutex<State>, Condvar)>);

struct State {
    running: usize,
    /// When each goes on; `None`: it has ended.
    wakes: Vec<Option<u64>>,
}

impl State {
    /// Of two that go on at the same time the other one.
    fn go_on(&mut self) {
        let before = self.running;
        let wakes = self.wakes.iter().enumerate().filter_map(|(n, wake)| wake.map(|wake| (n, wake)));
        self.running = wakes.min_by_key(|(n, wake)| (*wake, *n == before)).map_or(0, |(n, _)| n);
    }
}

/// What another thread takes over.
struct Lent<T>(T);

// SAFETY: one of the threads runs at a time, and each hands over under the lock, which orders what they do.
unsafe impl<T> Send for Lent<T> {}

impl<T> Lent<T> {
    fn take(self) -> T {
        self.0
    }
}

impl Beside {
    /// With whoever calls as the first.
    #[must_use]
    pub fn new() -> Self {
        let state = State { running: 0, wakes: std::vec![Some(0)] };
        Self(Arc::new((Mutex::new(state), Condvar::new())))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.0.lock().unwrap()
    }

    /// Another one, which begins at `now_us`; `work` gets its number.
    pub fn start(&self, now_us: u64, work: Box<dyn FnOnce(usize)>) -> (usize, JoinHandle<()>) {
        let mut state = self.state();
        let me = state.wakes.len();
        state.wakes.push(Some(now_us));
        drop(state);
        let lent = Lent((self.clone(), work));
        let thread = std::thread::Builder::new().stack_size(STACK_BYTES).spawn(move || {
            let (beside, work) = lent.take();
            beside.await_turn(me, beside.state());
            // What it says of itself, `work` says.
            let _ = catch_unwind(AssertUnwindSafe(|| work(me)));
            let mut state = beside.state();
            state.wakes[me] = None;
            state.go_on();
            beside.0.1.notify_all();
        });
        (me, thread.unwrap())
    }

    /// Lets the others run until `until_us`.
    pub fn wait(&self, me: usize, until_us: u64) {
        let mut state = self.state();
        state.wakes[me] = Some(until_us);
        state.go_on();
        if state.running != me {
            self.0.1.notify_all();
            self.await_turn(me, state);
        }
    }

    fn await_turn(&self, me: usize, mut state: MutexGuard<'_, State>) {
        while state.running != me {
            state = self.0.1.wait(state).unwrap();
        }
    }

    /// True when it has ended.
    #[must_use]
    pub fn has_ended(&self, number: usize) -> bool {
        self.state().wakes[number].is_none()
    }
}

impl Default for Beside {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::Beside;
    use std::boxed::Box;
    use std::cell::RefCell;
    use std::rc::Rc;
    use std::vec::Vec;

    #[test]
    fn whose_time_comes_first_goes_on_first() {
        let beside = Beside::new();
        let seen = Rc::new(RefCell::new(Vec::new()));
        let threads: Vec<_> = [3, 2]
            .into_iter()
            .map(|step| {
                let (other, seen) = (beside.clone(), Rc::clone(&seen));
                let work = move |me| {
                    for n in 1..=3 {
                        other.wait(me, n * step);
                        seen.borrow_mut().push(n * step);
                    }
                };
                beside.start(0, Box::new(work))
            })
            .collect();
        assert!(seen.borrow().is_empty());
        beside.wait(0, 7);
        assert_eq!(*seen.borrow(), [2, 3, 4, 6, 6]);
        assert!(!beside.has_ended(threads[0].0) && beside.has_ended(threads[1].0));
        beside.wait(0, 10);
        for (_, thread) in threads {
            thread.join().unwrap();
        }
        assert_eq!(*seen.borrow(), [2, 3, 4, 6, 6, 9]);
    }
}
