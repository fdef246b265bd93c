//! The report: sections with a sentence, a table and a plot, as Markdown and as HTML.

use std::fmt::Write;

use crate::chart::{self, Axis, Chart, Line, Scale, short};
use crate::machine;
use crate::micro::Micro;
use crate::results::{Measured, Results};

/// A section.
struct Section {
    name: &'static str,
    title: &'static str,
    text: &'static str,
    head: Vec<&'static str>,
    rows: Vec<Vec<String>>,
    plot: Option<String>,
}

/// The whole report.
pub struct Page(Vec<Section>);

impl Page {
    /// Puts it together.
    pub fn new(results: &Results, micro: &[Micro]) -> Result<Self, String> {
        let mut sections =
            vec![forward(results)?, workers(results)?, connect(results)?, memory(results)?, synflood(results)?];
        sections.push(install(results)?);
        sections.push(micros(micro));
        sections.retain(|section| !section.rows.is_empty());
        Ok(Page(sections))
    }

    /// The plots, by name.
    pub fn plots(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().filter_map(|section| Some((section.name, section.plot.as_deref()?)))
    }

    /// As Markdown; the plots are files beside it.
    pub fn markdown(&self) -> String {
        let mut out = format!("# {TITLE}\n\n{INTRODUCTION}\n\n");
        for line in machine::lines() {
            let _ = writeln!(out, "- {line}");
        }
        for Section { name, title, text, head, rows, plot } in &self.0 {
            let _ = write!(out, "\n## {title}\n\n{text}\n\n");
            if plot.is_some() {
                let _ = write!(out, "![{title}]({name}.svg)\n\n");
            }
            let _ = writeln!(out, "| {} |\n|{}", head.join(" | "), "---|".repeat(head.len()));
            for row in rows {
                let _ = writeln!(out, "| {} |", row.join(" | "));
            }
        }
        out
    }

    /// As HTML, in one file.
    pub fn html(&self) -> String {
        let mut out = format!(
            "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n<title>{TITLE}</title>\n<style>{STYLE}</style>\n\
             </head>\n<body>\n<h1>{TITLE}</h1>\n<p>{}</p>\n<ul>\n",
            escape(INTRODUCTION)
        );
        for line in machine::lines() {
            let _ = writeln!(out, "<li>{}</li>", escape(&line));
        }
        out += "</ul>\n";
        let cells = |row: &[String], tag: &str| -> String {
            row.iter().map(|cell| format!("<{tag}>{}</{tag}>", escape(cell))).collect()
        };
        for Section { title, text, head, rows, plot, .. } in &self.0 {
            let _ = write!(out, "<h2>{}</h2>\n<p>{}</p>\n", escape(title), escape(text));
            let _ = writeln!(out, "{}", plot.as_deref().unwrap_or_default());
            let head: Vec<_> = head.iter().map(|&word| word.to_owned()).collect();
            let _ = writeln!(out, "<table>\n<tr>{}</tr>", cells(&head, "th"));
            for row in rows {
                let _ = writeln!(out, "<tr>{}</tr>", cells(row, "td"));
            }
            out += "</table>\n";
        }
        out + "</body>\n</html>\n"
    }
}

const TITLE: &str = "Carom: benchmarks";
const INTRODUCTION: &str = "The shipped worker loop and offload manager between in-memory ports and rings, measured in CPU time of \
their threads. Medians; where something was measured several times, the least and the greatest value stand beside.";
const STYLE: &str = "body{font:16px/1.5 sans-serif;max-width:60em;margin:2em auto;padding:0 1em;color:#222}\
h2{margin-top:2em}table{border-collapse:collapse;margin:1em 0}th,td{padding:.2em .9em;text-align:right;\
border-bottom:1px solid #ddd}th:first-child,td:first-child{text-align:left}svg{max-width:100%;height:auto}";

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

/// A figure: its median, and how far it went.
fn figure(m: &Measured, key: &str, scale: f64, digits: usize) -> [String; 2] {
    let values = m.sorted(key);
    let number = |v: f64| format!("{:.digits$}", v / scale);
    let range = match (values.first(), values.last()) {
        (Some(&low), Some(&high)) if values.len() > 1 => format!("{} – {}", number(low), number(high)),
        _ => String::new(),
    };
    [m.median(key).map(number).unwrap_or_default(), range]
}

fn cell(m: &Measured, key: &str, scale: f64, digits: usize) -> String {
    let [median, _] = figure(m, key, scale, digits);
    median
}

/// The section's lines with their points, in the order of the cases.
fn lines(results: &Results, section: &str, key: &str, scale: f64) -> Vec<Line> {
    let mut lines: Vec<Line> = Vec::new();
    for m in results.of(section) {
        let Some(y) = m.median(key) else { continue };
        let point = (m.case.x, y / scale);
        match lines.iter_mut().find(|line| line.name == m.case.line) {
            Some(line) => line.points.push(point),
            None => lines.push(Line { name: m.case.line.to_owned(), points: vec![point] }),
        }
    }
    lines
}

const SESSIONS: Axis = Axis { title: "sessions", scale: Scale::Log, format: short };

fn plot(title: &str, x: Axis, y: (&str, Scale), lines: Vec<Line>) -> Result<Option<String>, String> {
    if lines.is_empty() {
        return Ok(None);
    }
    let y = Axis { title: y.0, scale: y.1, format: short };
    chart::draw(&Chart { title, x, y, lines }).map(Some)
}

fn forward(results: &Results) -> Result<Section, String> {
    let row = |m: &Measured| {
        let [mpps, range] = figure(m, "mpps_per_cpu_second", 1.0, 2);
        let [ns, io] = ["ns_per_packet", "io_ns_per_packet"].map(|key| cell(m, key, 1.0, 1));
        vec![m.case.line.to_owned(), short(m.case.x), mpps, range, ns, io, m.text("table_pages")]
    };
    let lines = lines(results, "forward", "mpps_per_cpu_second", 1.0);
    Ok(Section {
        name: "forward",
        title: "Forwarding",
        text: "Frames of 60 bytes (74 for IPv6 over TCP), half in each direction, of all sessions in a shuffled order; one worker.",
        head: vec![
            "traffic",
            "sessions",
            "Mpps per CPU-second",
            "from – to",
            "ns per packet",
            "of them the ports",
            "tables on pages of",
        ],
        rows: results.of("forward").map(row).collect(),
        plot: plot("Packets per second of one worker", SESSIONS, ("Mpps per CPU-second", Scale::FromZero), lines)?,
    })
}

fn workers(results: &Results) -> Result<Section, String> {
    let row = |m: &Measured| {
        let [mpps, range] = figure(m, "mpps_per_cpu_second", 1.0, 2);
        let [handed, lost] = ["handed_over_share", "handover_dropped_share"].map(|key| cell(m, key, 0.01, 2) + " %");
        vec![m.case.line.to_owned(), format!("{}", m.case.x), mpps, range, handed, lost]
    };
    let lines = lines(results, "workers", "mpps_per_cpu_second", 1.0);
    let x = Axis { title: "workers", scale: Scale::Steps, format: whole };
    Ok(Section {
        name: "workers",
        title: "Workers",
        text: "100 000 TCP sessions over IPv4 for each worker. What lands at another worker is handed over through a ring.",
        head: vec!["traffic", "workers", "Mpps per CPU-second", "from – to", "handed over", "lost to full rings"],
        rows: results.of("workers").map(row).collect(),
        plot: plot("Packets per second of each worker", x, ("Mpps per CPU-second", Scale::FromZero), lines)?,
    })
}

/// Whole numbers only: there is no half of a worker.
fn whole(v: f64) -> String {
    if (v - v.round()).abs() < 1e-6 { chart::plain(v.round()) } else { String::new() }
}

fn connect(results: &Results) -> Result<Section, String> {
    let row = |m: &Measured| {
        let [rate, range] = figure(m, "sessions_per_cpu_second", 1e6, 2);
        let [ns, io] = ["ns_per_session", "io_ns_per_session"].map(|key| cell(m, key, 1.0, 0));
        vec![m.case.line.to_owned(), short(m.case.x), rate, range, ns, io]
    };
    let lines = lines(results, "connect", "sessions_per_cpu_second", 1e6);
    Ok(Section {
        name: "connect",
        title: "New connections",
        text: "Open: SYN, SYN-ACK and ACK with the client's address fill an empty table. Open and close: FIN, FIN, ACK, the timer \
               and the release of the port besides, while so many connections are open.",
        head: vec!["connections", "sessions", "M per CPU-second", "from – to", "ns per session", "of them the ports"],
        rows: results.of("connect").map(row).collect(),
        plot: plot("Connections per second of one worker", SESSIONS, ("M per CPU-second", Scale::FromZero), lines)?,
    })
}

/// Parts of a session's memory, with their names in the result.
const PARTS: [&str; 6] = ["hot", "cold", "index", "timer", "half_open", "other"];

fn memory(results: &Results) -> Result<Section, String> {
    let row = |m: &Measured| {
        let parts = PARTS.map(|part| cell(m, &format!("{part}_bytes_per_session"), 1.0, 1));
        let pages = m.text("table_pages");
        [vec![m.case.line.to_owned(), short(m.case.x), cell(m, "bytes_per_session", 1.0, 1)], parts.into(), vec![pages]]
            .concat()
    };
    let lines = lines(results, "memory", "bytes_per_session", 1.0);
    Ok(Section {
        name: "memory",
        title: "Memory",
        text: "Growth of resident memory from before a worker's tables are made to when as many sessions as they are made for \
               are in them, in bytes for each session: what packets read and write of it, the rest of it, the index, timers, the \
               list of half-open sessions; the rest is local ports, counters, and what does not grow with the sessions.",
        head: vec![
            "family",
            "sessions",
            "bytes",
            "hot",
            "cold",
            "index",
            "timers",
            "half-open",
            "the rest",
            "tables on pages of",
        ],
        rows: results.of("memory").map(row).collect(),
        plot: plot("Memory of a session", SESSIONS, ("bytes", Scale::FromZero), lines)?,
    })
}

fn synflood(results: &Results) -> Result<Section, String> {
    let row = |m: &Measured| {
        let shares = ["good_kept_share", "good_rate_share"].map(|key| cell(m, key, 0.01, 1) + " %");
        let ns = ["ns_per_spoofed_syn", "ns_per_good_session"].map(|key| cell(m, key, 1.0, 0));
        let half_open = ["half_open_sessions", "half_open_ms"].map(|key| cell(m, key, 1.0, 0));
        [vec![whole(m.case.x)], shares.into(), ns.into(), half_open.into()].concat()
    };
    let line = |name: &str, key| {
        let points = results.of("synflood").filter_map(|m| Some((m.case.x, 100.0 * m.median(key)?))).collect();
        Line { name: name.to_owned(), points }
    };
    let lines = vec![line("good connections opened", "good_kept_share"), line("their rate", "good_rate_share")];
    let x = Axis { title: "spoofed SYNs for each packet of a good client", scale: Scale::FromZero, format: whole };
    Ok(Section {
        name: "synflood",
        title: "SYN flood",
        text: "Good clients, 50 ms away, open, use and close connections while spoofed SYNs arrive, which real servers answer; the \
               worker is busy all the time, and the flood has filled its table. Opened: of the good connections that were \
               begun, at the first try. Rate: per CPU-second, of that without a flood.",
        head: vec![
            "spoofed per good packet",
            "good opened",
            "their rate",
            "ns per spoofed SYN",
            "ns per good connection",
            "half-open sessions",
            "each lasts ms",
        ],
        rows: results.of("synflood").map(row).collect(),
        plot: plot("Good traffic during a SYN flood", x, ("per cent", Scale::FromZero), lines)?,
    })
}

/// Percentiles of the time of an install, with their names in the result.
const PERCENTILES: [(f64, &str); 5] =
    [(50.0, "p50_us"), (90.0, "p90_us"), (99.0, "p99_us"), (99.9, "p999_us"), (100.0, "max_us")];

fn install(results: &Results) -> Result<Section, String> {
    let ways = [
        ("manager, install", "install"),
        ("manager, remove", "remove"),
        ("bare loop, install", "bare.install"),
        ("bare loop, remove", "bare.remove"),
    ];
    let line = |m: &Measured, (name, way): (&str, &str)| {
        let value = |(at, (_, key)): (usize, &(f64, &str))| Some((at as f64, m.median(&format!("{way}.{key}"))? / 1e3));
        Line { name: name.to_owned(), points: PERCENTILES.iter().enumerate().filter_map(value).collect() }
    };
    let row = |m: &Measured, (name, way): (&str, &str)| {
        let rates =
            ["updates_per_second", "updates_per_cpu_second"].map(|key| cell(m, &format!("{way}.{key}"), 1e3, 0));
        let times = PERCENTILES.map(|(_, key)| cell(m, &format!("{way}.{key}"), 1e3, 1));
        [vec![name.to_owned()], rates.into(), times.into()].concat()
    };
    let lines = results.of("install").flat_map(|m| ways.map(|way| line(m, way))).collect();
    let x = Axis { title: "share of the sessions", scale: Scale::Steps, format: percentile };
    Ok(Section {
        name: "install",
        title: "Installs",
        text: "Entries of 30 000 IPv4 sessions are written to a fake target in the same process and deleted again, through the \
               offload manager and by a loop that does nothing else. Before it deletes, the manager reads the entries' \
               counters; the loop does not. Times are from the worker's decision to the verdict.",
        head: vec!["", "k updates/s", "k per CPU-second of the thread", "p50 ms", "p90", "p99", "p99.9", "max"],
        rows: results.of("install").flat_map(|m| ways.map(|way| row(m, way))).collect(),
        plot: plot("Time until a session is installed or removed", x, ("ms", Scale::Log), lines)?,
    })
}

fn percentile(at: f64) -> String {
    let name = |&(percent, _): &(f64, &str)| if percent == 100.0 { "all".to_owned() } else { format!("{percent} %") };
    let at = whole(at).parse::<usize>().ok();
    at.and_then(|at| PERCENTILES.get(at)).map(name).unwrap_or_default()
}

fn micros(micro: &[Micro]) -> Section {
    let row = |m: &Micro| {
        let [low, median, high] = m.ns.map(|ns| format!("{ns:.2}"));
        vec![m.name.clone(), median, format!("{low} – {high}")]
    };
    Section {
        name: "micro",
        title: "Parts",
        text: "The pieces of the packet's way by themselves, with warm caches: medians by criterion, with their confidence \
               intervals of 95 %.",
        head: vec!["part", "ns", "from – to"],
        rows: micro.iter().map(row).collect(),
        plot: None,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::cases;

    fn results() -> Results {
        let run =
            |key: &str| json!({ key: 1.5, "install": { "p50_us": 10, "p99_us": 100 }, "sessions_per_cpu_second": 2e6 });
        let measured = |case| Measured { case, runs: vec![run("mpps_per_cpu_second"), run("bytes_per_session")] };
        Results(cases::all(true).into_iter().map(measured).collect())
    }

    #[test]
    fn every_section_has_its_table_and_plot() {
        let micro = [Micro { name: "hash <v4>".to_owned(), ns: [1.0, 2.0, 3.0] }];
        let page = Page::new(&results(), &micro).unwrap();
        let names: Vec<_> = page.plots().map(|(name, _)| name).collect();
        assert_eq!(names, ["forward", "workers", "connect", "memory", "synflood", "install"]);
        assert!(page.plots().all(|(_, svg)| svg.starts_with("<svg") && svg.ends_with("</svg>\n")));
        let (markdown, html) = (page.markdown(), page.html());
        assert!(markdown.contains("| hash <v4> | 2.00 | 1.00 – 3.00 |"), "{markdown}");
        assert!(html.contains("<td>hash &lt;v4&gt;</td><td>2.00</td>"), "{html}");
        for name in names {
            assert!(markdown.contains(&format!("({name}.svg)")), "{name}");
        }
    }
}
