//! What cannot change while the balancer runs.

use serde_json::Value;

use super::path::KeyPath;
use super::types::Interface;
use super::{Config, Refused};

/// Sections that are fixed at start.
const FIXED: &[&str] = &["target", "workers", "dpdk", "limits", "admin", "metrics", "log", "debug"];

/// Keys of an interface that are fixed at start: DPDK's ports are, and what the workers know of the switch's.
const FIXED_OF_INTERFACE: [&str; 5] = ["name", "device", "port", "mac", "mtu"];

/// Keys of the target that the offload manager can change while it runs.
const CHANGEABLE_OF_TARGET: &[&str] = &["policy", "retry", "sweep", "punt_rate", "punt_burst"];

impl Config {
    /// Refuses `next` as a successor of this config when it changes what only a restart can change. Names each such key.
    pub fn check_reload(&self, next: &Config) -> Result<(), Refused> {
        let mut changed: Vec<(KeyPath, String)> = Vec::new();
        for section in FIXED {
            // Sections are plain tables of numbers and texts, which JSON can always hold.
            if let (Some(old), Some(new)) = (section_of(self, section), section_of(next, section)) {
                difference(&KeyPath::key(section), &old, &new, &mut changed);
            }
        }
        let interfaces = KeyPath::key("interface");
        let (old, new) = (&self.interface, &next.interface);
        if old.len() != new.len() {
            // The list itself has no line; its last item is nearest to the change.
            let last = interfaces.item(new.len().saturating_sub(1));
            changed.push((last, format!("the number of interfaces went from {} to {}", old.len(), new.len())));
        } else {
            for (i, (old, new)) in old.iter().zip(new).enumerate() {
                let pair = [old, new].map(fixed_of);
                for (key, (old, new)) in FIXED_OF_INTERFACE.iter().zip(pair[0].iter().zip(&pair[1])) {
                    if old != new {
                        changed.push((interfaces.item(i).join(key), format!("{old} became {new}")));
                    }
                }
            }
        }
        if changed.is_empty() {
            return Ok(());
        }
        let problem = |(path, change): (KeyPath, String)| {
            next.source.problem(&path, None, format!("{change}, which needs a restart; nothing was changed"))
        };
        Err(Refused { file: next.path.clone(), problems: changed.into_iter().map(problem).collect() })
    }
}

/// The values of [`FIXED_OF_INTERFACE`], as messages show them.
fn fixed_of(interface: &Interface) -> [String; 5] {
    let text = |value: Option<String>| value.unwrap_or_else(|| "unset".into());
    [
        interface.name.clone(),
        text(interface.device.as_ref().map(ToString::to_string)),
        text(interface.port.map(|port| port.to_string())),
        text(interface.mac.map(|mac| mac.to_string())),
        interface.mtu.to_string(),
    ]
}

fn section_of(config: &Config, name: &str) -> Option<Value> {
    let file = &config.file;
    match name {
        // The number of workers counts, not how it came about.
        "workers" => {
            let mut workers = serde_json::to_value(&file.workers).ok()?;
            workers["count"] = config.workers().into();
            Some(workers)
        }
        "target" => {
            let mut target = serde_json::to_value(&file.target).ok()?;
            target.as_object_mut()?.retain(|key, _| !CHANGEABLE_OF_TARGET.contains(&key.as_str()));
            Some(target)
        }
        "dpdk" => serde_json::to_value(&file.dpdk).ok(),
        "limits" => serde_json::to_value(&file.limits).ok(),
        "admin" => serde_json::to_value(&file.admin).ok(),
        "metrics" => serde_json::to_value(&file.metrics).ok(),
        "log" => serde_json::to_value(&file.log).ok(),
        "debug" => serde_json::to_value(&file.debug).ok(),
        _ => None,
    }
}

/// Adds each key whose value differs, lists as a whole.
fn difference(path: &KeyPath, old: &Value, new: &Value, changed: &mut Vec<(KeyPath, String)>) {
    match (old, new) {
        (Value::Object(old), Value::Object(new)) => {
            for (key, value) in new {
                difference(&path.join(key), old.get(key).unwrap_or(&Value::Null), value, changed);
            }
        }
        _ if old != new => changed.push((path.clone(), format!("{} became {}", shown(old), shown(new)))),
        _ => {}
    }
}

fn shown(value: &Value) -> String {
    if value.is_null() { "unset".into() } else { value.to_string() }
}
