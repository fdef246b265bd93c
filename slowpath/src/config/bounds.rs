//! Ranges of numbers, in one place for the checks, the schema and the reference.

use std::ops::RangeInclusive;

/// Workers are numbered in a byte, and Debian's DPDK has room for 128 threads (`RTE_MAX_LCORE`), one of them control's.
pub const WORKERS: RangeInclusive<u32> = 1..=127;

/// The kernel's affinity masks as glibc sizes them (`CPU_SETSIZE`).
pub const CPU: RangeInclusive<u32> = 0..=1023;

/// The least that every IPv4 host must take (RFC 791) to the largest common jumbo frame.
pub const MTU: RangeInclusive<u32> = 576..=9600;

/// The least MTU of a link with IPv6 (RFC 8200 section 5).
pub const MIN_MTU6: u32 = 1280;

/// DPDK's ordinary memory, in MiB.
pub const MEMORY_MB: RangeInclusive<u32> = 64..=1 << 20;

/// Packet buffers.
pub const MBUFS: RangeInclusive<u32> = 1024..=1 << 24;

/// Sessions of a family: their places are 31 bits, one of which is the direction.
pub const SESSIONS: RangeInclusive<u32> = 1..=1 << 30;

/// Next hops are numbered in 16 bits.
pub const NEXTHOPS: RangeInclusive<u32> = 1..=u16::MAX as u32;

/// Packets that wait for one neighbour. Each holds a packet buffer.
pub const PENDING: RangeInclusive<u32> = 0..=1024;

/// Remembered clients.
pub const PERSISTENCE: RangeInclusive<u32> = 1..=1 << 28;

/// Packets in a second.
pub const RATE: RangeInclusive<u32> = 0..=1_000_000;

/// Maglev's table: at the most thirty-two times the default.
pub const TABLE_SIZE: RangeInclusive<u32> = 2..=1 << 21;

/// Prefix lengths of IPv4.
pub const PREFIX4: RangeInclusive<u32> = 0..=32;

/// Prefix lengths of IPv6.
pub const PREFIX6: RangeInclusive<u32> = 0..=128;

/// Ports of a switch: their numbers travel in the VLAN id of a tag, of which 4095 is reserved (IEEE 802.1Q).
pub const PORT: RangeInclusive<u32> = 0..=4094;

/// P4Runtime's numbers of devices begin at 1; TOML's integers end at 2⁶³ - 1.
pub const DEVICE_ID: RangeInclusive<u64> = 1..=i64::MAX as u64;

/// P4Runtime's election ids: 0 stands for none (section 5 of the specification).
pub const ELECTION_ID: RangeInclusive<u64> = 1..=i64::MAX as u64;

/// Controllers of a role at a time.
pub const CONTROLLERS: RangeInclusive<u32> = 1..=1024;

/// Entries of a table of softnic.
pub const ENTRIES: RangeInclusive<u32> = 1..=1 << 26;

/// Pipes of a Tofino chip.
pub const PIPES: RangeInclusive<u32> = 1..=4;

/// Punted packets in a second, and at once.
pub const PUNT: RangeInclusive<u32> = 1..=100_000_000;

/// Packets after which a session may be forwarded by the switch.
pub const ELEPHANT_PACKETS: RangeInclusive<u32> = 1..=1_000_000_000;

/// Bytes after which a session may be forwarded by the switch.
pub const ELEPHANT_BYTES: RangeInclusive<u32> = 1..=u32::MAX;

/// Packets in a second from which on a session may be forwarded by the switch.
pub const ELEPHANT_PPS: RangeInclusive<u32> = 1..=u16::MAX as u32;
