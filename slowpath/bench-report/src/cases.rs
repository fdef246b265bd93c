//! What is measured, and where it goes in the report.

/// One call of `carom bench`.
#[derive(Clone, Debug)]
pub struct Case {
    /// Its section of the report.
    pub section: &'static str,
    /// Its line in the section's plot.
    pub line: &'static str,
    /// Where on the line.
    pub x: f64,
    /// The arguments after `bench`.
    pub args: Vec<String>,
    /// How often it is measured.
    pub repeats: u32,
}

impl Case {
    fn new(section: &'static str, line: &'static str, x: impl Into<f64>, args: &str) -> Self {
        let args = args.split_whitespace().map(str::to_owned).collect();
        Case { section, line, x: x.into(), args, repeats: 3 }
    }

    fn repeats(self, repeats: u32) -> Self {
        Case { repeats, ..self }
    }
}

/// More sessions than this take so long to make that they are measured once.
const MANY: u32 = 1_000_000;

/// All cases; with `quick` fewer and shorter, and none of them twice.
pub fn all(quick: bool) -> Vec<Case> {
    let mut cases = forward(quick);
    cases.extend(workers(quick));
    cases.extend(connect(quick));
    cases.extend(memory(quick));
    cases.extend(synflood(quick));
    let install = if quick { "install --seconds 1 --runs 1" } else { "install --seconds 2 --runs 3" };
    cases.push(Case::new("install", "", 0, install).repeats(1));
    if quick {
        cases.iter_mut().for_each(|case| case.repeats = 1);
    }
    cases
}

fn sessions(quick: bool) -> &'static [u32] {
    if quick { &[64, 10_000, 1_000_000] } else { &[64, 1_000, 10_000, 100_000, 1_000_000, 10_000_000] }
}

fn seconds(quick: bool) -> f64 {
    if quick { 0.5 } else { 1.5 }
}

fn repeats(sessions: u32) -> u32 {
    if sessions > MANY { 1 } else { 3 }
}

fn forward(quick: bool) -> Vec<Case> {
    let lines = [("TCP, IPv4", "--proto tcp --ipv 4"), ("UDP, IPv4", "--proto udp --ipv 4"), ("TCP, IPv6", "--ipv 6")];
    let case = |&n: &u32, (line, what): (&'static str, &str)| {
        let args = format!("forward --sessions {n} --seconds {} {what}", seconds(quick));
        Case::new("forward", line, n, &args).repeats(repeats(n))
    };
    sessions(quick).iter().flat_map(|n| lines.map(|line| case(n, line))).collect()
}

fn workers(quick: bool) -> Vec<Case> {
    let each = 100_000;
    let case = |workers: u32, (line, share): (&'static str, f64)| {
        let (sessions, seconds) = (workers * each, seconds(quick));
        let args = format!("forward --sessions {sessions} --workers {workers} --handover {share} --seconds {seconds}");
        Case::new("workers", line, workers, &args)
    };
    let lines = [("every packet lands at its worker", 0.0), ("half of them at another", 0.5)];
    let cores = std::thread::available_parallelism().map_or(1, |n| n.get() as u32);
    // One worker has nobody to hand over to.
    let makes_sense = |(workers, (_, share)): &(u32, (&str, f64))| *workers > 1 || *share == 0.0;
    let all = (1..=cores.min(3)).flat_map(|workers| lines.map(|line| (workers, line)));
    all.filter(makes_sense).map(|(workers, line)| case(workers, line)).collect()
}

fn connect(quick: bool) -> Vec<Case> {
    let lines = [("open", ""), ("open and close", "--teardown")];
    let case = |&n: &u32, (line, what): (&'static str, &str)| {
        let args = format!("connect --sessions {n} --runs 1 --seconds {} {what}", 2.0 * seconds(quick));
        Case::new("connect", line, n, &args).repeats(repeats(n))
    };
    // Fewer are made in no time.
    sessions(quick).iter().filter(|&&n| n >= 10_000).flat_map(|n| lines.map(|line| case(n, line))).collect()
}

fn memory(quick: bool) -> Vec<Case> {
    let case = |&n: &u32, (line, ipv): (&'static str, u32)| {
        Case::new("memory", line, n, &format!("memory --sessions {n} --ipv {ipv}")).repeats(1)
    };
    let lines = [("IPv4", 4), ("IPv6", 6)];
    sessions(quick).iter().filter(|&&n| n >= 10_000).flat_map(|n| lines.map(|line| case(n, line))).collect()
}

fn synflood(quick: bool) -> Vec<Case> {
    let case =
        |n: u32| Case::new("synflood", "", n, &format!("synflood --spoofed {n} --seconds {}", 2.0 * seconds(quick)));
    let ratios: &[u32] = if quick { &[5] } else { &[1, 2, 5, 10] };
    ratios.iter().map(|&n| case(n).repeats(1)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quick_run_measures_each_section_once() {
        let (long, quick) = (all(false), all(true));
        assert!(quick.len() < long.len());
        assert!(quick.iter().all(|case| case.repeats == 1));
        for case in &long {
            assert!(quick.iter().any(|other| other.section == case.section && other.line == case.line), "{case:?}");
        }
    }

    #[test]
    fn no_case_is_there_twice() {
        let long = all(false);
        for (i, case) in long.iter().enumerate() {
            assert!(long[..i].iter().all(|other| other.args != case.args), "{case:?}");
        }
    }
}
