//! CPU time of another thread of this process.

use std::fs;
use std::time::Duration;

use super::super::BenchError;

/// What the thread with this name has used; of several, what they used together.
pub fn of_thread(name: &str) -> Result<Duration, BenchError> {
    of_threads("/proc/self/task", Some(name))
}

/// What the threads listed in a directory of /proc have used, all or those with this name. Linux tells in nanoseconds.
pub fn of_threads(tasks: &str, name: Option<&str>) -> Result<Duration, BenchError> {
    let whose = name.map_or_else(|| tasks.to_owned(), |name| format!("the thread {name}"));
    let error = |what: &str| BenchError(format!("cannot tell the CPU time of {whose}: {what}"));
    let tasks = fs::read_dir(tasks).map_err(|e| error(&e.to_string()))?;
    let mut sum = None;
    for task in tasks.flatten() {
        // A thread that has ended meanwhile is none of ours.
        let Ok(comm) = fs::read_to_string(task.path().join("comm")) else { continue };
        if name.is_some_and(|name| comm.trim_end() != name) {
            continue;
        }
        let text = fs::read_to_string(task.path().join("schedstat")).map_err(|e| error(&e.to_string()))?;
        let ns: u64 = text.split(' ').next().and_then(|n| n.parse().ok()).ok_or_else(|| error("odd schedstat"))?;
        *sum.get_or_insert(Duration::ZERO) += Duration::from_nanos(ns);
    }
    sum.ok_or_else(|| error("there is none"))
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;

    #[test]
    fn work_counts_and_rest_does_not() {
        let busy = std::thread::Builder::new().name("cpu-test-busy".into()).spawn(|| {
            let start = Instant::now();
            while start.elapsed() < Duration::from_millis(100) {}
            let used = of_thread("cpu-test-busy").unwrap();
            std::thread::sleep(Duration::from_millis(100));
            (used, of_thread("cpu-test-busy").unwrap())
        });
        let (worked, rested) = busy.unwrap().join().unwrap();
        assert!(worked > Duration::from_millis(10), "{worked:?}");
        assert!(rested - worked < Duration::from_millis(50), "{worked:?} {rested:?}");
        assert!(of_thread("cpu-test-nobody").is_err());
        let all = of_threads(&format!("/proc/{}/task", std::process::id()), None).unwrap();
        assert!(all > Duration::ZERO);
    }
}
