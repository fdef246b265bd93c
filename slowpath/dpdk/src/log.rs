//! DPDK's log: captured, so that errors can quote it, and handed to the caller's sink.

use std::collections::VecDeque;
use std::ffi::c_char;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// How grave a message of DPDK is.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum LogLevel {
    /// Something failed (DPDK's emergency, alert, critical and error).
    Error = 4,
    /// Something works less well than it could.
    Warning = 5,
    /// Normal, but worth knowing.
    Notice = 6,
    /// Progress.
    Info = 7,
    /// For finding faults in DPDK's use.
    Debug = 8,
}

impl LogLevel {
    fn from_dpdk(level: u32) -> LogLevel {
        match level {
            0..=4 => LogLevel::Error,
            5 => LogLevel::Warning,
            6 => LogLevel::Notice,
            7 => LogLevel::Info,
            _ => LogLevel::Debug,
        }
    }
}

/// Receives each line DPDK logs, from whichever thread logs. It must not call back into this crate.
pub type LogSink = fn(LogLevel, &str);

/// Lines kept for quoting.
const KEPT: usize = 256;

struct Capture {
    lines: VecDeque<(LogLevel, String)>,
    /// Lines ever captured: the position of the next one.
    next: u64,
    sink: Option<LogSink>,
    /// The least grave level that the sink gets.
    level: LogLevel,
}

static CAPTURE: Mutex<Capture> =
    Mutex::new(Capture { lines: VecDeque::new(), next: 0, sink: None, level: LogLevel::Notice });

fn capture() -> MutexGuard<'static, Capture> {
    // A panic while holding the lock leaves the lines as they are, which is good enough for a log.
    CAPTURE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Takes DPDK's log over. False when there is no memory for it.
pub(crate) fn install(sink: Option<LogSink>, level: LogLevel) -> bool {
    {
        let mut capture = capture();
        capture.sink = sink;
        capture.level = level;
    }
    // SAFETY: `write` is a function for the whole life of the process and may be called from any thread.
    unsafe { dpdk_sys::carom_log_to(Some(write)) == 0 }
}

/// Where the log is now; [`since`] gives what came after.
pub(crate) fn mark() -> u64 {
    capture().next
}

/// The warnings and errors logged after `mark`, or everything when there are none.
pub(crate) fn since(mark: u64) -> Vec<String> {
    let capture = capture();
    let first = capture.next - capture.lines.len() as u64;
    let skip = mark.saturating_sub(first) as usize;
    let new = || capture.lines.iter().skip(skip);
    let grave: Vec<_> = new().filter(|(level, _)| *level <= LogLevel::Warning).map(|(_, line)| line.clone()).collect();
    if grave.is_empty() { new().map(|(_, line)| line.clone()).collect() } else { grave }
}

/// Called by DPDK's log stream with a whole message.
unsafe extern "C" fn write(level: u32, text: *const c_char, len: usize) {
    if text.is_null() || len == 0 {
        return;
    }
    // SAFETY: stdio passes a buffer of `len` bytes that stays as it is during the call.
    let bytes = unsafe { std::slice::from_raw_parts(text.cast::<u8>(), len) };
    let level = LogLevel::from_dpdk(level);
    // A panic must not unwind into C; a sink that panics loses its line.
    let _ = std::panic::catch_unwind(|| {
        for line in String::from_utf8_lossy(bytes).lines().map(str::trim).filter(|line| !line.is_empty()) {
            record(level, line);
        }
    });
}

fn record(level: LogLevel, line: &str) {
    let sink = {
        let mut capture = capture();
        if capture.lines.len() == KEPT {
            capture.lines.pop_front();
        }
        capture.lines.push_back((level, line.to_owned()));
        capture.next += 1;
        capture.sink.filter(|_| level <= capture.level)
    };
    // Outside the lock, so that a slow sink holds up no other thread.
    if let Some(sink) = sink {
        sink(level, line);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quotes_what_is_grave_and_everything_otherwise() {
        let start = mark();
        record(LogLevel::Info, "scanning");
        assert_eq!(since(start), ["scanning"]);
        record(LogLevel::Error, "no such thing");
        assert_eq!(since(start), ["no such thing"]);
        for n in 0..KEPT + 10 {
            record(LogLevel::Error, &n.to_string());
        }
        assert_eq!(since(start).len(), KEPT);
        assert!(since(mark()).is_empty());
    }
}
