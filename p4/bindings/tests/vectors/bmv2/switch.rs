//! A running `simple_switch_grpc`.
//!
//! Its input files are named pipes, so that it reads packets when they are sent and not when it starts; its output files
//! are plain and flushed by packet.

use std::fs::File;
use std::io::Write;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

/// The ports it has.
pub const PORTS: [u16; 4] = [1, 2, 3, 4];

/// How long to wait for something that must come.
const PATIENCE: Duration = Duration::from_secs(20);

pub struct Switch {
    child: Child,
    dir: PathBuf,
    inputs: Vec<File>,
    pub grpc_port: u16,
}

impl Switch {
    pub fn start(binary: &Path) -> Self {
        static STARTED: AtomicU32 = AtomicU32::new(0);
        let name = format!("bmv2-{}-{}", std::process::id(), STARTED.fetch_add(1, Ordering::Relaxed));
        let dir = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
        let _ = std::fs::remove_dir_all(&dir);
        std::fs::create_dir_all(&dir).unwrap();
        // Free now; whoever takes them before the switch does fails this test.
        let free = [(); 2].map(|()| TcpListener::bind("127.0.0.1:0").unwrap());
        let [grpc_port, thrift_port] = free.map(|listener| listener.local_addr().unwrap().port());
        let mut command = Command::new(binary);
        command.current_dir(&dir).args(["--no-p4", "--device-id", "1", "--use-files", "0"]);
        command.args(["--thrift-port", &thrift_port.to_string()]);
        for port in PORTS {
            assert!(Command::new("mkfifo").arg(dir.join(format!("p{port}_in.pcap"))).status().unwrap().success());
            command.args(["-i", &format!("{port}@p{port}")]);
        }
        command.args(["--", "--grpc-server-addr", &format!("127.0.0.1:{grpc_port}")]);
        let log = File::create(dir.join("log")).unwrap();
        command.stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log);
        let child = command.spawn().unwrap_or_else(|error| panic!("{}: {error}", binary.display()));
        let mut switch = Switch { child, dir, inputs: Vec::new(), grpc_port };
        for port in PORTS {
            // Opens when the switch opens the other end, which it does in this order.
            let mut input = File::options().write(true).open(switch.dir.join(format!("p{port}_in.pcap"))).unwrap();
            input.write_all(&header()).unwrap();
            switch.inputs.push(input);
        }
        switch
    }

    /// Has frames come in, in this order, each by its port; once, since the switch takes the last ones only when it sees
    /// the end of all its files.
    pub fn receive_all<'a>(&mut self, frames: impl IntoIterator<Item = (u16, &'a [u8])>) {
        let mut files = vec![Vec::new(); PORTS.len()];
        for (at, (port, frame)) in (1..).zip(frames) {
            let file = PORTS.iter().position(|p| *p == port).expect("a port");
            // Over all ports it goes by time.
            files[file].extend(record(at, frame));
        }
        // It reads the files in turns, and a pipe holds little: each has its writer.
        for (mut input, bytes) in self.inputs.drain(..).zip(files) {
            std::thread::spawn(move || input.write_all(&bytes).expect("the switch reads"));
        }
    }

    /// Waits for that many frames to have left by a port, and a little longer for more.
    pub async fn sent(&self, port: u16, frames: usize) -> Vec<Vec<u8>> {
        let start = Instant::now();
        while self.left(port).len() < frames && start.elapsed() < PATIENCE {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
        self.left(port)
    }

    fn left(&self, port: u16) -> Vec<Vec<u8>> {
        records(&std::fs::read(self.dir.join(format!("p{port}_out.pcap"))).unwrap_or_default())
    }
}

impl Drop for Switch {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            let log = std::fs::read_to_string(self.dir.join("log")).unwrap_or_default();
            eprintln!("{log}");
        } else {
            let _ = std::fs::remove_dir_all(&self.dir);
        }
    }
}

/// The header of a pcap file: little-endian, microseconds, Ethernet.
fn header() -> Vec<u8> {
    let words: [u32; 6] = [0xa1b2_c3d4, 0x0004_0002, 0, 0, 65_535, 1];
    words.iter().flat_map(|word| word.to_le_bytes()).collect()
}

/// A packet in a pcap file, that many seconds into the epoch.
fn record(second: u32, frame: &[u8]) -> Vec<u8> {
    let len = frame.len() as u32;
    let head = [second, 0, len, len].into_iter().flat_map(u32::to_le_bytes);
    head.chain(frame.iter().copied()).collect()
}

/// The packets in a pcap file; one that is not written to its end is left out.
fn records(file: &[u8]) -> Vec<Vec<u8>> {
    let mut found = Vec::new();
    let mut rest = file.get(24..).unwrap_or_default();
    while let Some((head, behind)) = rest.split_first_chunk::<16>() {
        let len = u32::from_le_bytes([head[8], head[9], head[10], head[11]]) as usize;
        let Some((frame, behind)) = behind.split_at_checked(len) else { break };
        found.push(frame.to_vec());
        rest = behind;
    }
    found
}
