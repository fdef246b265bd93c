//! What the figures were measured on.

use std::fs;

/// The machine in one line each: processor, kernel, memory pages.
pub fn lines() -> Vec<String> {
    let read = |file: &str| fs::read_to_string(file).unwrap_or_default();
    let cpus = read("/proc/cpuinfo");
    let model = cpus.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": ")).map(|(_, model)| model);
    let count = cpus.lines().filter(|line| line.starts_with("processor")).count();
    let memory = read("/proc/meminfo");
    let amount = |key: &str| {
        let line = memory.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(':'));
        line.and_then(|rest| rest.split_whitespace().next()?.parse::<u64>().ok()).unwrap_or(0)
    };
    let transparent = read("/sys/kernel/mm/transparent_hugepage/enabled");
    let transparent = transparent.split(['[', ']']).nth(1).unwrap_or("not there");
    vec![
        format!("{} × {}", count.max(1), model.unwrap_or("processor of unknown model").trim()),
        format!("Linux {}", read("/proc/sys/kernel/osrelease").trim()),
        format!(
            "{} GB of memory; {} huge pages of {} kB reserved; transparent huge pages: {transparent}",
            (amount("MemTotal") + (1 << 19)) >> 20,
            amount("HugePages_Total"),
            amount("Hugepagesize"),
        ),
    ]
}
