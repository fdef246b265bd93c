//! `carom drops`.

use super::*;

impl View for Drops {
    fn uptime_ms(&self) -> u64 {
        self.uptime_ms
    }

    fn render(&self, before: Option<&Self>, look: Look) -> String {
        drops(self, before, look, false)
    }
}

/// Most workers that have a column each in the drops table.
const DROP_COLUMNS: usize = 4;

/// `carom drops`: the reasons that happened, or all of them.
pub fn drops(now: &Drops, before: Option<&Drops>, look: Look, all: bool) -> String {
    let past = by_key(before.map_or(&[][..], |b| &b.drops), |d| d.number);
    let workers = now.drops.first().map_or(0, |d| d.by_worker.len());
    let shown = if (2..=DROP_COLUMNS).contains(&workers) { workers } else { 0 };
    let heads: Vec<String> = (0..shown).map(|w| format!("WORKER {w}")).collect();
    let mut columns = vec![("REASON", Left), ("NO", Right), (if look.watch { "PKT/S" } else { "PACKETS" }, Right)];
    columns.extend(heads.iter().map(|h| (h.as_str(), Right)));
    columns.push(("WHAT HAPPENED", Left));
    let rows: Vec<_> = now
        .drops
        .iter()
        .filter(|d| all || d.total > 0)
        .map(|d| {
            let row = Counting { look, seconds: seconds(now, before), now: d, before: past.get(&d.number).copied() };
            let mut cells = vec![d.reason.clone(), d.number.to_string(), row.show(|d| d.total)];
            cells.extend((0..shown).map(|w| row.show(|d| d.by_worker.get(w).copied().unwrap_or(0))));
            cells.push(d.text.clone());
            cells
        })
        .collect();
    let parts = [
        (!rows.is_empty()).then(|| table(&columns, rows, Some(look.width))),
        switch_drops(now, before, look, all),
        port_drops(now, before, look, all),
    ];
    let parts: Vec<_> = parts.into_iter().flatten().collect();
    if parts.is_empty() { "no packet was dropped\n".to_owned() } else { parts.join("\n") }
}

/// What the switch dropped by itself.
fn switch_drops(now: &Drops, before: Option<&Drops>, look: Look, all: bool) -> Option<String> {
    let past = by_key(before.map_or(&[][..], |b| &b.switch), |d| d.number);
    let packets = if look.watch { "PKT/S" } else { "PACKETS" };
    let columns = [("BY THE SWITCH", Left), ("NO", Right), (packets, Right), ("WHAT HAPPENED", Left)];
    let shown = now.switch.iter().filter(|d| all || d.total > 0);
    let rows: Vec<_> = shown
        .map(|d| {
            let row = Counting { look, seconds: seconds(now, before), now: d, before: past.get(&d.number).copied() };
            vec![d.reason.clone(), d.number.to_string(), row.show(|d| d.total), d.text.clone()]
        })
        .collect();
    (!rows.is_empty()).then(|| table(&columns, rows, Some(look.width)))
}

/// What a switch in the balancer's process dropped at its ports.
fn port_drops(now: &Drops, before: Option<&Drops>, look: Look, all: bool) -> Option<String> {
    let past = by_key(before.map_or(&[][..], |b| &b.ports), |d| (d.reason.as_str(), d.port.as_str()));
    let packets = if look.watch { "PKT/S" } else { "PACKETS" };
    let columns = [("AT ITS PORTS", Left), ("PORT", Left), (packets, Right), ("WHAT HAPPENED", Left)];
    let shown = now.ports.iter().filter(|d| all || d.total > 0);
    let rows: Vec<_> = shown
        .map(|d| {
            let past = past.get(&(d.reason.as_str(), d.port.as_str())).copied();
            let row = Counting { look, seconds: seconds(now, before), now: d, before: past };
            vec![d.reason.clone(), d.port.clone(), row.show(|d| d.total), d.text.clone()]
        })
        .collect();
    (!rows.is_empty()).then(|| table(&columns, rows, Some(look.width)))
}
