//! The files: records are appended in memory, and one thread for each endpoint opens the files and
//! writes them, so that a slow disk delays no connection. It knows nothing of qlog but where a record ends.
//!
//! Memory, file and total are bounded. An error ends one file, and the first is logged.

use std::{
    fs::{File, OpenOptions},
    io::{self, Write},
    mem,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use parking_lot::{Condvar, Mutex};

/// How long records may wait in memory: a reader of the file sees them soon, and a busy connection
/// costs ten writes a second.
const INTERVAL: Duration = Duration::from_millis(100);

/// Bytes in memory at which a file is written at once.
const URGENT: usize = 256 * 1024;

/// Bytes of one file that may wait in memory. Records beyond it are dropped: the disk is slower
/// than the connection.
const MAX_WAITING: usize = 4 * 1024 * 1024;

/// Bytes of all files of an endpoint that may wait in memory: enough for a second of a slow disk, and
/// bounded if it hangs.
const MAX_ALL_WAITING: u64 = 64 * 1024 * 1024;

/// Room in a file for the record that says why there are no more.
const LAST_RECORD: u64 = 256;

/// Bytes of all files of one endpoint. 1 GiB: sixteen full files.
pub(super) const MAX_TOTAL: u64 = 1024 * 1024 * 1024;

/// Files of one endpoint: a day of some dials each minute. A flood of handshakes ends there.
pub(super) const MAX_FILES: u64 = 4096;

/// How long a drop waits for a lock, which in the child of a fork may be held for ever.
const PATIENCE: Duration = Duration::from_millis(1);

/// Why a file has fewer records than there were events.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Gap {
    /// The disk was too slow for these many records.
    Dropped(u64),
    /// The file has reached its limit.
    FileIsFull,
    /// All files together have reached [`MAX_TOTAL`].
    TotalIsReached,
}

/// One file.
pub(super) struct Output {
    path: PathBuf,
    limit: u64,
    waiting: Mutex<Waiting>,
    /// Only the thread locks it.
    file: Mutex<Option<File>>,
}

#[derive(Default)]
struct Waiting {
    bytes: Vec<u8>,
    /// Bytes of the file, and of those that wait.
    accepted: u64,
    dropped: u64,
    /// It is in the thread's list.
    is_listed: bool,
    /// No more records are accepted.
    is_ended: bool,
}

/// The thread's list, and the counts of an endpoint.
pub(super) struct Writer {
    state: Mutex<State>,
    wake: Condvar,
    idle: Condvar,
    files: AtomicU64,
    total: AtomicU64,
    /// Bytes that wait in memory.
    waiting: AtomicU64,
    /// An error was logged.
    has_warned: AtomicBool,
    /// That there are no further files was logged. An error before it must not hide it.
    has_told_limit: AtomicBool,
}

#[derive(Default)]
struct State {
    listed: Vec<Arc<Output>>,
    is_urgent: bool,
    is_writing: bool,
    is_stopped: bool,
}

impl Writer {
    fn without_thread() -> Self {
        Self {
            state: Mutex::default(),
            wake: Condvar::new(),
            idle: Condvar::new(),
            files: AtomicU64::new(0),
            total: AtomicU64::new(0),
            waiting: AtomicU64::new(0),
            has_warned: AtomicBool::new(false),
            has_told_limit: AtomicBool::new(false),
        }
    }

    /// Begin the thread.
    pub(super) fn start() -> io::Result<Arc<Self>> {
        let writer = Arc::new(Self::without_thread());
        let of_the_thread = writer.clone();
        thread::Builder::new()
            .name("quic-qlog".into())
            .spawn(move || of_the_thread.run())?;
        Ok(writer)
    }

    /// A new file, which the thread creates with its first record. `None` if there are too many.
    pub(super) fn output(&self, path: PathBuf, limit: u64) -> Option<Arc<Output>> {
        let is_full = self.files.load(Ordering::Relaxed) >= MAX_FILES
            || self.total.load(Ordering::Relaxed) >= MAX_TOTAL;
        if is_full {
            warn_once(
                &self.has_told_limit,
                format_args!(
                    "qlog: no further files, as this endpoint has written {MAX_FILES} files or \
                     {MAX_TOTAL} bytes"
                ),
            );
            return None;
        }
        self.files.fetch_add(1, Ordering::Relaxed);
        Some(Arc::new(Output {
            path,
            limit,
            waiting: Mutex::default(),
            file: Mutex::default(),
        }))
    }

    /// Append a record, which ends with a line feed. `explain` makes the record about a gap.
    pub(super) fn append(
        &self,
        output: &Arc<Output>,
        record: &[u8],
        explain: impl Fn(Gap) -> String,
    ) {
        let mut waiting = output.waiting.lock();
        if waiting.is_ended {
            return;
        }
        let all = self.waiting.load(Ordering::Relaxed) + record.len() as u64;
        if waiting.bytes.len() + record.len() > MAX_WAITING || all > MAX_ALL_WAITING {
            waiting.dropped += 1;
            return;
        }
        let dropped = match mem::take(&mut waiting.dropped) {
            0 => String::new(),
            count => explain(Gap::Dropped(count)),
        };
        let length = (dropped.len() + record.len()) as u64;
        let gap = if waiting.accepted + length + LAST_RECORD > output.limit {
            Some(Gap::FileIsFull)
        } else if self.total.load(Ordering::Relaxed) + length > MAX_TOTAL {
            Some(Gap::TotalIsReached)
        } else {
            None
        };
        let before = waiting.bytes.len();
        match gap {
            Some(gap) => {
                waiting.bytes.extend_from_slice(explain(gap).as_bytes());
                waiting.is_ended = true;
            }
            None => {
                waiting.bytes.extend_from_slice(dropped.as_bytes());
                waiting.bytes.extend_from_slice(record);
            }
        }
        let length = (waiting.bytes.len() - before) as u64;
        waiting.accepted += length;
        self.total.fetch_add(length, Ordering::Relaxed);
        self.waiting.fetch_add(length, Ordering::Relaxed);
        let is_urgent = before < URGENT && waiting.bytes.len() >= URGENT;
        let is_new = !mem::replace(&mut waiting.is_listed, true);
        drop(waiting);
        if is_new || is_urgent {
            let mut state = self.state.lock();
            if is_new {
                state.listed.push(output.clone());
            }
            state.is_urgent |= is_urgent;
            self.wake.notify_one();
        }
    }

    /// Write what waits, now.
    pub(super) fn urge(&self) {
        if let Some(mut state) = self.state.try_lock_for(PATIENCE) {
            state.is_urgent = true;
            self.wake.notify_one();
        }
    }

    /// Wait until everything is written, at most for `patience`.
    pub(super) fn finish(&self, patience: Duration) {
        let deadline = Instant::now() + patience;
        self.urge();
        let mut state = self.state.lock();
        while state.is_writing || !state.listed.is_empty() {
            if self.idle.wait_until(&mut state, deadline).timed_out() {
                return;
            }
        }
    }

    /// End the thread when it has written what waits.
    pub(super) fn stop(&self) {
        if let Some(mut state) = self.state.try_lock_for(PATIENCE) {
            state.is_stopped = true;
            self.wake.notify_one();
        }
    }

    fn run(&self) {
        while let Some(outputs) = self.next() {
            for output in &outputs {
                self.write(output);
            }
            // A file whose connection is over is closed here.
            drop(outputs);
            self.state.lock().is_writing = false;
            self.idle.notify_all();
        }
    }

    /// Wait for files to write. `None` if there will be no more.
    fn next(&self) -> Option<Vec<Arc<Output>>> {
        let mut state = self.state.lock();
        while state.listed.is_empty() {
            if state.is_stopped {
                return None;
            }
            self.wake.wait(&mut state);
        }
        let deadline = Instant::now() + INTERVAL;
        while !state.is_urgent && !state.is_stopped {
            if self.wake.wait_until(&mut state, deadline).timed_out() {
                break;
            }
        }
        state.is_urgent = false;
        state.is_writing = true;
        Some(mem::take(&mut state.listed))
    }

    fn write(&self, output: &Output) {
        let bytes = {
            let mut waiting = output.waiting.lock();
            waiting.is_listed = false;
            mem::take(&mut waiting.bytes)
        };
        self.waiting
            .fetch_sub(bytes.len() as u64, Ordering::Relaxed);
        let mut file = output.file.lock();
        let written = match &mut *file {
            Some(file) => file.write_all(&bytes),
            None => create(&output.path).and_then(|created| {
                let created = file.insert(created);
                created.write_all(&bytes)
            }),
        };
        if let Err(error) = written {
            let mut waiting = output.waiting.lock();
            waiting.is_ended = true;
            let lost = mem::take(&mut waiting.bytes);
            self.waiting.fetch_sub(lost.len() as u64, Ordering::Relaxed);
            warn_once(
                &self.has_warned,
                format_args!(
                    "qlog: cannot write {}: {error}. This is reported once for an endpoint; connections \
                     go on without a file",
                    output.path.display()
                ),
            );
        }
    }
}

fn warn_once(has_warned: &AtomicBool, what: std::fmt::Arguments<'_>) {
    if !has_warned.swap(true, Ordering::Relaxed) {
        tracing::warn!("{what}");
    }
}

#[cfg(test)]
impl Writer {
    /// A writer whose thread does not run, as if the disk took for ever.
    pub(super) fn stuck() -> Self {
        Self::without_thread()
    }
}

#[cfg(test)]
impl Output {
    /// The records that wait, as if the disk had taken them.
    pub(super) fn take_waiting(&self) -> String {
        let bytes = mem::take(&mut self.waiting.lock().bytes);
        String::from_utf8(bytes).expect("text")
    }
}

/// Create a file that only this user may read, in a folder that is created if need be. It is never a
/// file that was there, nor the target of a link. On Windows it has the permissions of the folder.
fn create(path: &Path) -> io::Result<File> {
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder)?;
    }
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options.open(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn explain(gap: Gap) -> String {
        format!("{gap:?}\n")
    }

    fn waiting(output: &Output) -> String {
        String::from_utf8(output.waiting.lock().bytes.clone()).expect("text")
    }

    #[test]
    fn a_slow_disk_costs_records_and_the_file_says_how_many() {
        let writer = Writer::stuck();
        let output = writer.output("unused".into(), u64::MAX).expect("a file");
        let record = vec![b'x'; 1024 * 1024];
        for _ in 0..6 {
            writer.append(&output, &record, explain);
        }
        assert_eq!(output.waiting.lock().bytes.len(), MAX_WAITING);
        // The disk took everything.
        output.waiting.lock().bytes.clear();
        writer.append(&output, b"next\n", explain);
        assert_eq!(waiting(&output), "Dropped(2)\nnext\n");
    }

    #[test]
    fn a_disk_that_hangs_costs_a_bounded_amount_of_memory() {
        let writer = Writer::stuck();
        let record = vec![b'x'; 1024 * 1024];
        let outputs: Vec<_> = (0..100)
            .filter_map(|_| writer.output("/dev/null/unused".into(), u64::MAX))
            .collect();
        for output in outputs.iter().cycle().take(400) {
            writer.append(output, &record, explain);
        }
        let all: usize = outputs
            .iter()
            .map(|output| output.waiting.lock().bytes.len())
            .sum();
        assert_eq!(all as u64, MAX_ALL_WAITING);
        // An error frees it, too.
        for output in &outputs {
            writer.write(output);
        }
        assert_eq!(writer.waiting.load(Ordering::Relaxed), 0);
    }

    #[test]
    fn a_file_ends_within_its_limit() {
        let writer = Writer::stuck();
        let output = writer.output("unused".into(), 1000).expect("a file");
        for _ in 0..100 {
            writer.append(&output, b"0123456789\n", explain);
        }
        let text = waiting(&output);
        assert!(text.len() <= 1000 && text.len() > 700, "{}", text.len());
        assert!(text.ends_with("0123456789\nFileIsFull\n"));
    }

    #[test]
    fn all_files_end_at_the_total_and_no_further_one_begins() {
        let writer = Writer::stuck();
        let output = writer.output("unused".into(), u64::MAX).expect("a file");
        writer.total.store(MAX_TOTAL - 10, Ordering::Relaxed);
        writer.append(&output, b"0123456789\n", explain);
        assert_eq!(waiting(&output), "TotalIsReached\n");
        assert!(writer.output("unused".into(), u64::MAX).is_none());
    }

    #[test]
    fn an_error_does_not_hide_that_the_limit_is_reached() {
        let writer = Writer::stuck();
        let output = writer
            .output("/dev/null/unused".into(), 1000)
            .expect("a file");
        writer.append(&output, b"0123456789\n", explain);
        writer.write(&output);
        assert!(writer.has_warned.load(Ordering::Relaxed));
        assert!(!writer.has_told_limit.load(Ordering::Relaxed));
        writer.total.store(MAX_TOTAL, Ordering::Relaxed);
        assert!(writer.output("unused".into(), 1000).is_none());
        assert!(writer.has_told_limit.load(Ordering::Relaxed));
    }

    #[test]
    fn the_number_of_files_is_limited() {
        let writer = Writer::stuck();
        for _ in 0..MAX_FILES {
            assert!(writer.output("unused".into(), 1000).is_some());
        }
        assert!(writer.output("unused".into(), 1000).is_none());
    }

    #[test]
    fn the_thread_creates_private_files_and_never_replaces_one() {
        let folder = std::env::temp_dir().join(format!("qlog-output-{}", std::process::id()));
        let path = folder.join("a").join("file");
        let writer = Writer::start().expect("a thread");
        let output = writer.output(path.clone(), 1000).expect("a file");
        writer.append(&output, b"first\n", explain);
        writer.finish(Duration::from_secs(20));
        writer.append(&output, b"second\n", explain);
        writer.finish(Duration::from_secs(20));
        let again = writer.output(path.clone(), 1000).expect("a file");
        writer.append(&again, b"other\n", explain);
        writer.finish(Duration::from_secs(20));
        writer.stop();
        assert_eq!(
            std::fs::read_to_string(&path).expect("a file"),
            "first\nsecond\n"
        );
        // Windows gives a file the permissions of its folder.
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt;
            let permissions = std::fs::metadata(&path).expect("a file").permissions();
            assert_eq!(permissions.mode() & 0o777, 0o600);
        }
        assert!(writer.has_warned.load(Ordering::Relaxed));
        drop((output, again, writer));
        // Windows removes no folder with an open file, and the thread may not have ended yet.
        let removed = std::fs::remove_dir_all(folder);
        assert!(removed.is_ok() || cfg!(windows), "{removed:?}");
    }
}
