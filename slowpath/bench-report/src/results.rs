//! Running the cases, and what came out.

use std::path::Path;
use std::process::Command;

use serde_json::{Value, json};

use crate::cases::Case;

/// A case with what each of its runs printed.
pub struct Measured {
    /// What was run.
    pub case: Case,
    /// The JSON objects.
    pub runs: Vec<Value>,
}

impl Measured {
    /// A figure of each run, from the least to the greatest. The name may lead into objects: `install.p50_us`.
    pub fn sorted(&self, key: &str) -> Vec<f64> {
        let pointer = format!("/{}", key.replace('.', "/"));
        let mut values: Vec<f64> = self.runs.iter().filter_map(|run| run.pointer(&pointer)?.as_f64()).collect();
        values.sort_by(f64::total_cmp);
        values
    }

    /// What the last run said in words; empty: nothing.
    pub fn text(&self, key: &str) -> String {
        let last = self.runs.last().and_then(|run| run.get(key)?.as_str());
        last.unwrap_or_default().to_owned()
    }

    /// The median of a figure over the runs; of an even number, the upper of the two in the middle.
    pub fn median(&self, key: &str) -> Option<f64> {
        let values = self.sorted(key);
        values.get(values.len() / 2).copied()
    }
}

/// All of it.
pub struct Results(pub Vec<Measured>);

impl Results {
    /// Runs every case once, then all that are to be run twice, and so on.
    pub fn measure(carom: &Path, cases: Vec<Case>) -> Result<Self, String> {
        let mut all: Vec<_> = cases.into_iter().map(|case| Measured { case, runs: Vec::new() }).collect();
        let rounds = all.iter().map(|m| m.case.repeats).max().unwrap_or(0);
        for round in 0..rounds {
            for measured in all.iter_mut().filter(|m| m.case.repeats > round) {
                eprintln!("{}/{rounds}  carom bench {}", round + 1, measured.case.args.join(" "));
                measured.runs.push(once(carom, &measured.case.args)?);
            }
        }
        Ok(Results(all))
    }

    /// Those of a section.
    pub fn of<'a>(&'a self, section: &'a str) -> impl Iterator<Item = &'a Measured> {
        self.0.iter().filter(move |m| m.case.section == section)
    }

    /// Everything, for programs.
    pub fn json(&self) -> String {
        let one = |m: &Measured| json!({ "section": m.case.section, "args": m.case.args, "runs": m.runs });
        format!("{:#}\n", Value::Array(self.0.iter().map(one).collect()))
    }
}

/// One run: the last line that the benchmark prints is its result.
fn once(carom: &Path, args: &[String]) -> Result<Value, String> {
    let what = || format!("carom bench {}", args.join(" "));
    let output = Command::new(carom).arg("bench").args(args).arg("--json").output();
    let output = output.map_err(|e| format!("{}: {e}", carom.display()))?;
    if !output.status.success() {
        return Err(format!("{}: {}", what(), String::from_utf8_lossy(&output.stderr).trim()));
    }
    let text = String::from_utf8_lossy(&output.stdout);
    let last = text.lines().last().ok_or_else(|| format!("{} printed nothing", what()))?;
    serde_json::from_str(last).map_err(|e| format!("{}: {e}", what()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cases;

    #[test]
    fn figures_are_found_and_put_in_order() {
        let case = cases::all(true).remove(0);
        let runs = vec![json!({"a": {"b": 3}}), json!({"a": {"b": 1.5}}), json!({"a": {"b": 2}}), json!({})];
        let measured = Measured { case, runs };
        assert_eq!(measured.sorted("a.b"), [1.5, 2.0, 3.0]);
        assert_eq!(measured.median("a.b"), Some(2.0));
        assert_eq!(measured.median("a.c"), None);
    }
}
