//! A running `simple_switch_grpc`.
//!
//! Its input files are named pipes, so that it reads packets when they are sent and not when it starts; its output files
//! are plain and flushed by packet.

use std::fs::File;
use std::io::Write;
use std::net::SocketAddr;
use std::process::Command;
use std::time::{Duration, Instant};

use carom_p4::simple_switch::SimpleSwitch;

/// The ports it has.
pub const PORTS: [u16; 4] = [1, 2, 3, 4];

/// How long to wait for something that must come.
const PATIENCE: Duration = Duration::from_secs(20);

pub struct Switch {
    process: SimpleSwitch,
    inputs: Vec<File>,
}

impl Switch {
    /// `None`, and a line that says so, where there is no BMv2.
    pub fn start() -> Option<Self> {
        let mut process = SimpleSwitch::or_skip("golden vectors on BMv2")?;
        let input = |port: u16| {
            let path = process.dir().join(format!("p{port}_in.pcap"));
            assert!(Command::new("mkfifo").arg(&path).status().unwrap().success());
            // To read too: a pipe opened to be written only would wait for the switch.
            let mut input = File::options().read(true).write(true).open(path).unwrap();
            input.write_all(&header()).unwrap();
            input
        };
        let inputs = PORTS.map(input).into();
        let ports = PORTS.into_iter().flat_map(|port| ["-i".to_owned(), format!("{port}@p{port}")]);
        process.power_on(["--use-files", "0"].map(str::to_owned).into_iter().chain(ports));
        Some(Switch { process, inputs })
    }

    /// Where it serves P4Runtime.
    pub fn address(&self) -> SocketAddr {
        self.process.address()
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
        records(&std::fs::read(self.process.dir().join(format!("p{port}_out.pcap"))).unwrap_or_default())
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
