//! Numbers and times for people.

/// How numbers are printed.
#[derive(Clone, Copy, Debug, Default)]
pub struct Numbers {
    /// Every digit, instead of three or four and a suffix.
    pub exact: bool,
}

impl Numbers {
    /// A count: all digits up to five, then 123k, 12.3M, 1.23G.
    pub fn count(self, n: u64) -> String {
        if self.exact || n < 100_000 { n.to_string() } else { scaled(n as f64) }
    }

    /// A rate per second of a counter that went from `before` to `now`; `-` when it is not known yet.
    pub fn rate(self, now: u64, before: Option<u64>, seconds: Option<f64>) -> String {
        match (before, seconds) {
            // A counter that fell belongs to another run, or to another server in the same place.
            (Some(before), Some(seconds)) if now >= before => {
                let rate = (now - before) as f64 / seconds;
                match rate {
                    0.0 => "0".to_owned(),
                    r if r < 9.95 => format!("{r:.1}"),
                    r if self.exact || r < 99_999.5 => format!("{r:.0}"),
                    r => scaled(r),
                }
            }
            _ => "-".to_owned(),
        }
    }
}

/// Three digits and a decimal suffix.
fn scaled(n: f64) -> String {
    let mut n = n;
    let mut suffixes = ["", "k", "M", "G", "T", "P", "E"].iter();
    let mut suffix = suffixes.next().copied().unwrap_or_default();
    // 999.5 would print as 1000.
    while n >= 999.5 {
        let Some(next) = suffixes.next() else { break };
        n /= 1000.0;
        suffix = next;
    }
    let decimals = match n {
        n if n < 9.995 => 2,
        n if n < 99.95 => 1,
        _ => 0,
    };
    format!("{n:.decimals$}{suffix}")
}

/// Bytes of memory, in binary units.
pub fn memory(bytes: u64) -> String {
    match bytes {
        b if b >= 10 << 30 => format!("{} GiB", b >> 30),
        b if b >= 10 << 20 => format!("{} MiB", b >> 20),
        b => format!("{} KiB", b >> 10),
    }
}

/// A length of time, in the two units that matter: 3.2s, 5m03s, 2h05m, 3d04h.
pub fn duration(ms: u64) -> String {
    let s = ms / 1000;
    match s {
        0..60 => format!("{}.{}s", s, ms % 1000 / 100),
        60..3600 => format!("{}m{:02}s", s / 60, s % 60),
        3600..86_400 => format!("{}h{:02}m", s / 3600, s % 3600 / 60),
        _ => format!("{}d{:02}h", s / 86_400, s % 86_400 / 3600),
    }
}

/// A short length of time: 850us, 6.4ms, 1.2s.
pub fn microseconds(us: u64) -> String {
    match us {
        0..1000 => format!("{us}us"),
        1000..100_000 => format!("{}.{}ms", us / 1000, us % 1000 / 100),
        100_000..1_000_000 => format!("{}ms", us / 1000),
        _ => duration(us / 1000),
    }
}

/// A share in percent; `-` of nothing.
pub fn percent(part: u64, whole: u64) -> String {
    if whole == 0 { "-".to_owned() } else { format!("{:.1}%", 100.0 * part as f64 / whole as f64) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_keep_at_least_three_digits() {
        let numbers = Numbers::default();
        let cases = [
            (0, "0"),
            (99_999, "99999"),
            (100_000, "100k"),
            (123_456, "123k"),
            (999_499, "999k"),
            (999_500, "1.00M"),
            (1_234_567, "1.23M"),
            (12_345_678, "12.3M"),
            (99_950_000, "100M"),
            (9_996_000_000, "10.0G"),
            (u64::MAX, "18.4E"),
        ];
        for (n, text) in cases {
            assert_eq!(numbers.count(n), text);
        }
        assert_eq!(Numbers { exact: true }.count(1_234_567), "1234567");
    }

    #[test]
    fn rates_are_per_second_and_unknown_without_a_past() {
        let numbers = Numbers::default();
        assert_eq!(numbers.rate(10, None, Some(1.0)), "-");
        assert_eq!(numbers.rate(10, Some(5), None), "-");
        assert_eq!(numbers.rate(5, Some(10), Some(1.0)), "-");
        assert_eq!(numbers.rate(10, Some(10), Some(1.0)), "0");
        assert_eq!(numbers.rate(11, Some(10), Some(2.0)), "0.5");
        assert_eq!(numbers.rate(110, Some(10), Some(2.0)), "50");
        assert_eq!(numbers.rate(3_000_000, Some(0), Some(2.0)), "1.50M");
        assert_eq!(Numbers { exact: true }.rate(3_000_000, Some(0), Some(2.0)), "1500000");
    }

    #[test]
    fn durations_show_two_units() {
        let cases = [
            (0, "0.0s"),
            (59_999, "59.9s"),
            (60_000, "1m00s"),
            (3_599_999, "59m59s"),
            (7_500_000, "2h05m"),
            (273_600_000, "3d04h"),
        ];
        for (ms, text) in cases {
            assert_eq!(duration(ms), text);
        }
        let short =
            [(0, "0us"), (999, "999us"), (1_000, "1.0ms"), (99_999, "99.9ms"), (100_000, "100ms"), (1_250_000, "1.2s")];
        for (us, text) in short {
            assert_eq!(microseconds(us), text);
        }
        assert_eq!(memory(512 << 20), "512 MiB");
        assert_eq!(percent(1, 8), "12.5%");
        assert_eq!(percent(0, 0), "-");
    }
}
