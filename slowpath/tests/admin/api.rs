//! The API as programs see it.

use std::io::{Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;

use carom::api::client::{Client, ClientError};
use carom::api::model::*;
use carom::offload::Gone;
use serde_json::Value;

use crate::fake::{Fake, Served};

/// Sends one request as text; returns the status and the body.
fn raw(socket: &Path, request_line: &str) -> (u16, String) {
    let mut stream = UnixStream::connect(socket).unwrap();
    write!(stream, "{request_line} HTTP/1.1\r\nHost: carom\r\nConnection: close\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    (head.split(' ').nth(1).unwrap().parse().unwrap(), body.to_owned())
}

fn get(served: &Served, path: &str) -> Value {
    let (status, body) = raw(&served.socket, &format!("GET {path}"));
    assert_eq!(status, 200, "{path}: {body}");
    serde_json::from_str(&body).unwrap()
}

fn problem(served: &Served, request_line: &str) -> (u16, Problem) {
    let (status, body) = raw(&served.socket, request_line);
    (status, serde_json::from_str(&body).unwrap_or_else(|e| panic!("{request_line}: {e}: {body}")))
}

#[test]
fn every_document_has_its_stable_fields() {
    let served = Served::new();
    for path in ["services", "servers", "sessions", "ports", "drops", "workers", "neighbors", "interfaces"] {
        let document = get(&served, &format!("/v1/{path}"));
        assert_eq!(document["uptime_ms"], 273_906_000, "{path}");
        let row = &document[path][0];
        let fields: Vec<&str> = row.as_object().unwrap().keys().map(String::as_str).collect();
        insta::assert_snapshot!(format!("fields_{path}"), fields.join("\n"));
    }
    let status = get(&served, "/v1/status");
    let fields: Vec<&str> = status.as_object().unwrap().keys().map(String::as_str).collect();
    insta::assert_snapshot!("fields_status", fields.join("\n"));
    assert_eq!(status["target"], "none");
}

#[test]
fn a_target_is_shown_with_all_its_fields() {
    let served = Served::new();
    assert_eq!(get(&served, "/v1/targets")["targets"], Value::Array(Vec::new()));
    assert_eq!(get(&served, "/v1/drops")["switch"], Value::Array(Vec::new()));
    assert_eq!(get(&served, "/v1/status")["offload"], Value::Null);

    let served = Served::with(Fake::offloading());
    let targets = get(&served, "/v1/targets");
    insta::assert_snapshot!("fields_targets", paths("", &targets).join("\n"));
    assert_eq!(targets["targets"][0]["tables"][0]["entries"], 9_006);
    let status = get(&served, "/v1/status");
    assert_eq!((&status["target"], &status["offload"]["sessions"]), (&"bmv2".into(), &4_510.into()));
    let drops = get(&served, "/v1/drops");
    assert_eq!(drops["total"], 62, "what the switch drops is counted apart");
    let no_service = &drops["switch"][1];
    assert_eq!(
        (&no_service["reason"], &no_service["total"], &no_service["number"]),
        (&"no_service".into(), &23.into(), &16.into())
    );

    *served.fake.target.lock().unwrap() = Some(Err(Gone));
    let (status, problem) = problem(&served, "GET /v1/targets");
    assert_eq!((status, problem.error.as_str()), (503, "the offload manager has ended"));
    assert_eq!(get(&served, "/v1/status")["target"], "unknown");
}

/// The paths to all values of a document; of a list, to those of its first element.
fn paths(at: &str, value: &Value) -> Vec<String> {
    match value {
        Value::Object(fields) => {
            fields.iter().flat_map(|(name, value)| paths(&format!("{at}.{name}"), value)).collect()
        }
        Value::Array(list) => list.first().map_or_else(Vec::new, |value| paths(&format!("{at}[]"), value)),
        _ => vec![at.to_owned()],
    }
}

#[test]
fn counters_are_summed_over_workers() {
    let served = Served::new();
    let status = get(&served, "/v1/status");
    assert_eq!(status["totals"]["rx_packets"], 3_000_000);
    assert_eq!(status["totals"]["dropped"], 62);
    assert_eq!(status["totals"]["sessions_v6"], 24);
    let offload = [
        "sessions",
        "asked",
        "installed",
        "refused",
        "removed",
        "ring_full",
        "ignored",
        "packets_in",
        "packets_out",
        "bytes_in",
        "bytes_out",
    ];
    for (n, name) in (1..).zip(offload) {
        assert_eq!(status["totals"][format!("offload_{name}")], 300 * n, "{name}");
    }
    assert_eq!(status["totals"]["punted"], 2);

    let web = &get(&served, "/v1/services")["services"][0];
    assert_eq!((&web["name"], &web["address"]), (&"web".into(), &"10.10.0.100:443".into()));
    assert_eq!(web["packets_in"], 11 * 3_000);
    assert_eq!(web["bytes_out"], 190_000 * 3_000);
    assert_eq!(web["active_sessions"], 10 + 20);
    assert_eq!((&web["servers"], &web["servers_weighted"]), (&2.into(), &1.into()));

    let servers = get(&served, "/v1/servers");
    assert_eq!(servers["servers"][1]["address"], "10.20.2.10:8443");
    assert_eq!(servers["servers"][1]["packets_in"], 11 * 902);
    assert_eq!(servers["servers"][2]["service"], "quic");

    let drops = get(&served, "/v1/drops");
    let full = drops["drops"].as_array().unwrap().iter().find(|d| d["reason"] == "tx_full").unwrap();
    assert_eq!((&full["number"], &full["total"], &full["by_worker"]), (&37.into(), &60.into(), &vec![20, 40].into()));
    assert_eq!(drops["total"], 62);
}

#[test]
fn sessions_are_filtered_and_paged() {
    let served = Served::new();
    let clients = |query: &str| -> Vec<String> {
        let page = get(&served, &format!("/v1/sessions{query}"));
        page["sessions"].as_array().unwrap().iter().map(|s| s["client"].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(clients("").len(), 5);
    assert_eq!(clients("?client=192.0.2.7"), ["192.0.2.7:40000", "192.0.2.7:40002"]);
    assert_eq!(clients("?client=192.0.2.0%2F24").len(), 3);
    assert_eq!(clients("?client=2001:db8::/32"), ["[2001:db8::7]:40003"]);
    assert_eq!(clients("?client=0.0.0.0/0").len(), 4);
    assert_eq!(clients("?service=quic"), ["198.51.100.1:53"]);
    assert_eq!(clients("?service=10.10.0.100:443/tcp&state=syn_sent"), ["192.0.2.7:40002"]);
    assert_eq!(clients("?server=10.20.2.10"), ["192.0.2.8:40001", "[2001:db8::7]:40003"]);
    // One real server of two services.
    assert_eq!(clients("?server=10.20.1.10:8443").len(), 3);
    assert_eq!(clients("?state=established&client=192.0.2.8&server=10.20.2.10:8443"), ["192.0.2.8:40001"]);

    let first = get(&served, "/v1/sessions?limit=2&service=10.10.0.100:443/tcp");
    assert_eq!(first["sessions"].as_array().unwrap().len(), 2);
    let next = first["next"].as_str().unwrap();
    let second = get(&served, &format!("/v1/sessions?limit=2&service=10.10.0.100:443/tcp&cursor={next}"));
    assert_eq!(second["sessions"][0]["client"], "192.0.2.7:40002");
    assert_eq!(second["next"], Value::Null);

    assert_eq!(clients("?offload=installing"), ["192.0.2.8:40001"]);
    assert_eq!(clients("?offload=none&state=udp"), ["198.51.100.1:53"]);
    assert_eq!(clients("?offload=removing").len(), 0);
    assert_eq!(get(&served, "/v1/sessions/count?state=established")["count"], 3);
    assert_eq!(get(&served, "/v1/sessions/count?offload=offloaded")["count"], 2);
    // Without a filter the workers' own gauges tell.
    assert_eq!(get(&served, "/v1/sessions/count")["count"], 234);
}

#[test]
fn what_the_target_forwarded_is_added_to_its_sessions() {
    let served = Served::new();
    let page = get(&served, "/v1/sessions");
    let shown: Vec<_> = page["sessions"]
        .as_array()
        .unwrap()
        .iter()
        .map(|s| {
            (s["offload"].as_str().unwrap(), s["packets_in"].as_u64().unwrap(), s["packets_out"].as_u64().unwrap())
        })
        .collect();
    let expected = [
        ("offloaded", 1_007, 2_009),
        ("installing", 7, 9),
        ("none", 7, 9),
        ("none", 7, 9),
        ("offloaded", 30_007, 40_009),
    ];
    assert_eq!(shown, expected);
    let of_target = ["target_packets_in", "target_packets_out", "target_bytes_in", "target_bytes_out"];
    let known = |n: usize| of_target.map(|key| page["sessions"][n][key].as_u64());
    assert_eq!(known(0), [1_500, 2_500, 90_000, 150_000].map(Some));
    assert_eq!(known(1), [None; 4]);
}

#[test]
fn counting_goes_over_all_pages() {
    let mut fake = Fake::new();
    let one = fake.sessions[0];
    fake.sessions = vec![one; 25_000];
    let served = Served::with(fake);
    assert_eq!(get(&served, "/v1/sessions/count?state=established")["count"], 25_000);
}

#[test]
fn bad_queries_are_told_what_is_wrong() {
    let served = Served::new();
    let mut report = String::new();
    for query in [
        "client=here",
        "client=192.0.2.0/33",
        "service=mail",
        "service=10.10.0.100:443",
        "service=10.10.0.100:80/tcp",
        "service=web/sctp",
        "server=10.99.0.1",
        "server=10.20.1.10:80",
        "server=rs1",
        "state=open",
        "offload=yes",
        "limit=0",
        "limit=10001",
        "limit=many",
        "cursor=here",
        "colour=red",
        "limit=1&limit=2",
    ] {
        let (status, problem) = problem(&served, &format!("GET /v1/sessions?{query}"));
        assert_eq!(status, 400, "{query}");
        report += &format!("{query}\n    {}\n    {}\n", problem.error, problem.mend);
    }
    let (status, _) = problem(&served, "GET /v1/sessions/count?limit=5");
    assert_eq!(status, 400);
    insta::assert_snapshot!(report);
}

#[test]
fn wrong_paths_and_methods_are_refused() {
    let served = Served::new();
    let (status, problem_) = problem(&served, "GET /v2/status");
    assert_eq!((status, problem_.error.as_str()), (404, "no such path: /v2/status"));
    let (status, problem_) = problem(&served, "POST /v1/status");
    assert_eq!((status, problem_.mend.as_str()), (405, "use GET"));
    let (status, problem_) = problem(&served, "GET /v1/reload");
    assert_eq!((status, problem_.mend.as_str()), (405, "use POST"));
}

#[test]
fn a_reload_tells_the_generation_or_the_reason() {
    let served = Served::new();
    let (status, body) = raw(&served.socket, "POST /v1/reload");
    assert_eq!((status, body.as_str()), (200, r#"{"generation":2}"#));
    *served.fake.reload.lock().unwrap() = Err("carom.toml:3:1: no".to_owned());
    let (status, problem) = problem(&served, "POST /v1/reload");
    assert_eq!(status, 422);
    assert!(problem.error.ends_with("carom.toml:3:1: no"), "{problem:?}");
    assert_eq!(get(&served, "/v1/status")["generation"], 2);
}

#[test]
fn a_silent_worker_is_no_empty_list() {
    let served = Served::new();
    *served.fake.silent.lock().unwrap() = true;
    for path in ["/v1/sessions", "/v1/sessions/count?state=udp", "/v1/ports"] {
        let (status, problem) = problem(&served, &format!("GET {path}"));
        assert_eq!(status, 503, "{path}");
        assert!(problem.error.contains("worker 1 did not answer within 500 ms"), "{problem:?}");
    }
    // What needs no worker is still there.
    get(&served, "/v1/drops");
}

#[test]
fn the_socket_is_private_and_removed_at_the_end() {
    use std::os::unix::fs::PermissionsExt;
    let mut served = Served::new();
    let mode = std::fs::metadata(&served.socket).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    get(&served, "/v1/status");
    // A client that holds its connection open does not keep the daemon from stopping.
    let idle = UnixStream::connect(&served.socket).unwrap();
    let mut used = UnixStream::connect(&served.socket).unwrap();
    used.write_all(b"GET /v1/status HTTP/1.1\r\nHost: carom\r\n\r\n").unwrap();
    used.read_exact(&mut [0; 64]).unwrap();
    served.stop();
    assert!(!served.socket.exists());
    drop((idle, used));
}

#[tokio::test]
async fn the_client_reads_what_the_server_says() {
    let served = Served::new();
    let status: Status = served.client.get("/v1/status").await.unwrap();
    assert_eq!(status.totals.sessions(), 234);
    let query = SessionsQuery { client: Some("2001:db8::/32".into()), ..Default::default() };
    let sessions: Sessions = served.client.query("/v1/sessions", &query).await.unwrap();
    assert_eq!(sessions.sessions.len(), 1);
    let reloaded: Reloaded = served.client.post("/v1/reload").await.unwrap();
    assert_eq!(reloaded.generation, 2);
    let refused = served.client.get::<Status>("/v1/nothing").await.unwrap_err();
    assert!(matches!(refused, ClientError::Refused { status: 404, .. }), "{refused:?}");
}

#[tokio::test]
async fn the_client_says_who_is_not_there() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("admin.sock");
    let ask = async || Client::new(&path).get::<Status>("/v1/status").await.unwrap_err();
    assert!(matches!(ask().await, ClientError::NotRunning(_)));
    // A socket file that outlived its daemon.
    drop(UnixListener::bind(&path).unwrap());
    assert!(matches!(ask().await, ClientError::NotRunning(_)));
    // Somebody who speaks another language.
    std::fs::remove_file(&path).unwrap();
    let other = UnixListener::bind(&path).unwrap();
    let thread = std::thread::spawn(move || {
        let (mut stream, _) = other.accept().unwrap();
        stream.write_all(b"220 mail.example.com ESMTP\r\n").unwrap();
    });
    let error = ask().await;
    assert!(matches!(error, ClientError::Http { .. }), "{error:?}");
    thread.join().unwrap();
}
