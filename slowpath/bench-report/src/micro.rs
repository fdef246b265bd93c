//! Results of the criterion benchmarks.

use std::fs;
use std::path::Path;

use serde_json::Value;

/// A micro-benchmark.
#[derive(Clone, PartialEq, Debug)]
pub struct Micro {
    /// Group and name.
    pub name: String,
    /// The estimate of the median, with the bounds of its confidence interval, nanoseconds.
    pub ns: [f64; 3],
}

/// All that criterion left under its directory, by name. None when there is no such directory.
pub fn read(directory: &Path) -> Result<Vec<Micro>, String> {
    let mut found = Vec::new();
    walk(directory, &mut found)?;
    found.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(found)
}

fn walk(directory: &Path, found: &mut Vec<Micro>) -> Result<(), String> {
    let Ok(entries) = fs::read_dir(directory) else { return Ok(()) };
    for path in entries.flatten().map(|entry| entry.path()).filter(|path| path.is_dir()) {
        if path.file_name().is_some_and(|name| name == "new") {
            found.push(one(&path)?);
        } else {
            walk(&path, found)?;
        }
    }
    Ok(())
}

/// The results of one run: criterion divides by the elements of an iteration, when it is told how many there are, only in what
/// it prints.
fn one(directory: &Path) -> Result<Micro, String> {
    let json = |name: &str| -> Result<Value, String> {
        let path = directory.join(name);
        let text = fs::read_to_string(&path).map_err(|e| format!("{}: {e}", path.display()))?;
        serde_json::from_str(&text).map_err(|e| format!("{}: {e}", path.display()))
    };
    let (benchmark, estimates) = (json("benchmark.json")?, json("estimates.json")?);
    let elements = benchmark.pointer("/throughput/Elements").and_then(Value::as_f64).unwrap_or(1.0);
    let median = |key: &str| {
        let value = estimates.pointer(&format!("/median/{key}")).and_then(Value::as_f64);
        value.map(|ns| ns / elements).ok_or_else(|| format!("{}: no median", directory.display()))
    };
    let name = benchmark["full_id"].as_str().unwrap_or_default().to_owned();
    let low = median("confidence_interval/lower_bound")?;
    Ok(Micro { name, ns: [low, median("point_estimate")?, median("confidence_interval/upper_bound")?] })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_are_found_wherever_they_are() {
        let root = std::env::temp_dir().join(format!("bench-report-{}", std::process::id()));
        let new = root.join("hash/v4/new");
        fs::create_dir_all(&new).unwrap();
        fs::create_dir_all(root.join("hash/v4/base")).unwrap();
        fs::write(new.join("benchmark.json"), r#"{"full_id": "hash/v4", "throughput": {"Elements": 10}}"#).unwrap();
        let estimates = r#"{"median": {"point_estimate": 20.0,
            "confidence_interval": {"confidence_level": 0.95, "lower_bound": 10.0, "upper_bound": 40.0}}}"#;
        fs::write(new.join("estimates.json"), estimates).unwrap();
        let found = read(&root);
        fs::remove_dir_all(&root).unwrap();
        assert_eq!(found, Ok(vec![Micro { name: "hash/v4".to_owned(), ns: [1.0, 2.0, 4.0] }]));
        assert_eq!(read(&root), Ok(Vec::new()));
    }
}
