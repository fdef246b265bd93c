//! `carom sessions`.

use super::*;

impl View for Sessions {
    fn uptime_ms(&self) -> u64 {
        self.uptime_ms
    }

    /// On one line each where that fits, else on two.
    fn render(&self, _before: Option<&Self>, look: Look) -> String {
        let n = look.numbers;
        let names = |s: &Session| [s.proto.to_string(), s.state.clone(), s.offload.clone()];
        let bytes = |s: &Session| {
            [s.target_bytes_in, s.target_bytes_out].map(|bytes| bytes.map_or_else(|| "-".to_owned(), |b| n.count(b)))
        };
        let times = |s: &Session| [s.age_ms, s.idle_ms, s.expires_ms].map(duration);
        let heads = ["PROTO", "STATE", "OFFLOAD"].map(|h| (h, Left));
        let ends = ["AGE", "IDLE", "EXPIRES"].map(|h| (h, Right));

        let wide = self.sessions.iter().map(|s| {
            let addresses = [s.client, s.vip, s.local, s.server].map(|a| a.to_string());
            let packets = [n.count(s.packets_in), n.count(s.packets_out)];
            [&names(s)[..], &addresses, &packets, &bytes(s), &times(s)].concat()
        });
        let addresses = ["CLIENT", "SERVICE", "LOCAL", "SERVER"].map(|h| (h, Left));
        let packets = ["PKTS IN", "PKTS OUT", "HW BYTES IN", "HW BYTES OUT"].map(|h| (h, Right));
        let mut text = table(&[&heads[..], &addresses, &packets, &ends].concat(), wide, None);
        if width(&text) > usize::from(look.width) {
            let stacked = self.sessions.iter().map(|s| {
                let two = |a: String, b: String| format!("{a}\n{b}");
                vec![
                    s.proto.to_string(),
                    two(s.state.clone(), s.offload.clone()),
                    two(s.client.to_string(), s.vip.to_string()),
                    two(s.local.to_string(), s.server.to_string()),
                    two(n.count(s.packets_in), n.count(s.packets_out)),
                    bytes(s).join("\n"),
                    two(duration(s.age_ms), duration(s.idle_ms)),
                    duration(s.expires_ms),
                ]
            });
            let names = ["PROTO", "STATE\nOFFLOAD", "CLIENT\nSERVICE", "LOCAL\nSERVER"].map(|h| (h, Left));
            let numbers = ["PKTS IN\nPKTS OUT", "HW BYTES\nIN/OUT", "AGE\nIDLE", "EXPIRES"].map(|h| (h, Right));
            text = table(&[&names[..], &numbers].concat(), stacked, None);
        }
        if let Some(next) = &self.next {
            let _ = writeln!(text, "more: add --cursor {next}");
        }
        text
    }
}
