//! CPU time of another thread of this process.

use std::fs;
use std::time::Duration;

use super::super::BenchError;

/// What the thread with this name has used; of several, what they used together.
pub fn of_thread(name: &str) -> Result<Duration, BenchError> {
    let error = |what: &str| BenchError(format!("cannot tell the CPU time of the thread {name}: {what}"));
    let tasks = fs::read_dir("/proc/self/task").map_err(|e| error(&e.to_string()))?;
    let mut sum = None;
    for task in tasks.flatten() {
        // A thread that has ended meanwhile is none of ours.
        let Ok(comm) = fs::read_to_string(task.path().join("comm")) else { continue };
        if comm.trim_end() != name {
            continue;
        }
        let text = fs::read_to_string(task.path().join("schedstat")).map_err(|e| error(&e.to_string()))?;
        let ns: u64 = text.split(' ').next().and_then(|n| n.parse().ok()).ok_or_else(|| error("odd schedstat"))?;
        *sum.get_or_insert(Duration::ZERO) += Duration::from_nanos(ns);
    }
    sum.ok_or_else(|| error("there is none"))
}

/// What a process has used, with its threads that have ended. Linux tells in hundredths of a second.
pub fn of_process(process: u32) -> Result<Duration, BenchError> {
    let error = |what: &str| BenchError(format!("cannot tell the CPU time of process {process}: {what}"));
    let text = fs::read_to_string(format!("/proc/{process}/stat")).map_err(|e| error(&e.to_string()))?;
    // The name is in parentheses and may have any character; user and system time are fields 14 and 15 (proc(5)).
    let fields = text.rsplit_once(')').map_or("", |(_, rest)| rest).split_whitespace();
    let ticks: Vec<u64> = fields.skip(11).take(2).filter_map(|n| n.parse().ok()).collect();
    match ticks[..] {
        [user, system] => Ok(Duration::from_millis(10 * (user + system))),
        _ => Err(error("odd stat")),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;

    #[test]
    fn work_counts_and_rest_does_not() {
        const WORK: Duration = Duration::from_millis(100);
        let busy = std::thread::Builder::new().name("cpu-test-busy".into()).spawn(|| {
            let used = || of_thread("cpu-test-busy").unwrap();
            let start = Instant::now();
            // Others may have the CPU for most of the time.
            while used() < WORK && start.elapsed() < Duration::from_secs(20) {}
            let worked = used();
            std::thread::sleep(Duration::from_millis(100));
            (worked, used())
        });
        let (worked, rested) = busy.unwrap().join().unwrap();
        assert!(worked >= WORK, "{worked:?}");
        assert!(rested - worked < WORK / 2, "{worked:?} {rested:?}");
        assert!(of_thread("cpu-test-nobody").is_err());
        // Hundredths of a second, of work for itself and in the kernel each.
        assert!(of_process(std::process::id()).unwrap() >= WORK / 2);
        assert!(of_process(u32::MAX).is_err());
    }
}
