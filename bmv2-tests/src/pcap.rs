//! Capture files in the classic libpcap format, as DPDK's `net_pcap` and tcpdump read and write it.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};

const MAGIC_MICROS: u32 = 0xa1b2_c3d4;
const MAGIC_NANOS: u32 = 0xa1b2_3c4d;
const LINKTYPE_ETHERNET: u32 = 1;

/// A frame and when it passed.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Record {
    /// Since whatever the writer counts from; usually the epoch.
    pub time: Duration,
    /// The frame, without FCS.
    pub frame: Vec<u8>,
}

/// Reads a file written by a little-endian machine. Frames that were cut are refused.
pub fn read(path: &Path) -> Result<Vec<Record>> {
    let bytes = std::fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
    decode(&bytes).with_context(|| format!("{} is not a capture this reader knows", path.display()))
}

fn decode(bytes: &[u8]) -> Result<Vec<Record>> {
    let word = |at: usize| -> Result<u32> {
        let word = bytes.get(at..at + 4).context("the file ends early")?;
        Ok(u32::from_le_bytes([word[0], word[1], word[2], word[3]]))
    };
    let nanos_per_unit = match word(0)? {
        MAGIC_MICROS => 1000,
        MAGIC_NANOS => 1,
        other => bail!("magic number {other:#x}"),
    };
    ensure!(word(20)? == LINKTYPE_ETHERNET, "link type {}", word(20)?);
    let (mut at, mut records) = (24, Vec::new());
    while at < bytes.len() {
        let (captured, original) = (word(at + 8)?, word(at + 12)?);
        ensure!(captured == original, "record {} was cut to {captured} of {original} bytes", records.len());
        let frame = bytes.get(at + 16..at + 16 + captured as usize).context("the last frame ends early")?;
        let time = Duration::new(word(at)?.into(), word(at + 4)? * nanos_per_unit);
        records.push(Record { time, frame: frame.to_vec() });
        at += 16 + captured as usize;
    }
    Ok(records)
}

/// Writes a file with microsecond times.
pub fn write(path: &Path, records: &[Record]) -> Result<()> {
    std::fs::write(path, encode(records)).with_context(|| format!("cannot write {}", path.display()))
}

fn encode(records: &[Record]) -> Vec<u8> {
    let mut bytes = Vec::new();
    // Version 2.4, time zone and accuracy 0, frames up to 64 KiB.
    for word in [MAGIC_MICROS, 0x0004_0002, 0, 0, 0x0001_0000, LINKTYPE_ETHERNET] {
        bytes.extend_from_slice(&word.to_le_bytes());
    }
    for Record { time, frame } in records {
        let len = frame.len() as u32;
        for word in [time.as_secs() as u32, time.subsec_micros(), len, len] {
            bytes.extend_from_slice(&word.to_le_bytes());
        }
        bytes.extend_from_slice(frame);
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_back_what_it_writes() {
        let records = [
            Record { time: Duration::from_micros(1), frame: vec![1; 60] },
            Record { time: Duration::from_secs(3), frame: vec![2; 1514] },
        ];
        let bytes = encode(&records);
        assert_eq!(decode(&bytes).unwrap(), records);
        for len in (0..bytes.len()).filter(|&len| len != 24 && len != 24 + 16 + 60) {
            assert!(decode(&bytes[..len]).is_err(), "cut to {len} bytes");
        }
    }
}
