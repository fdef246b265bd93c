//! TCP headers (RFC 9293 section 3.1).

pub(crate) mod options;

use std::fmt;
use std::ops::{BitOr, BitOrAssign};

use crate::addr::Addr;
use crate::wire::checksum::Change;
use crate::wire::parse::Flow;

pub use options::{Opt, Options};

/// IANA protocol number.
pub const PROTO: u8 = 6;
/// Length of a header without options, bytes.
pub const LEN: usize = 20;
/// Room for options in a header, bytes: the data offset counts to 60.
pub const MAX_OPTIONS: usize = 40;

/// The smallest MSS [`lower_mss`] makes: what Linux takes at least (TCP_MIN_MSS). Less is a sign of an attack.
pub const MIN_MSS: u16 = 88;

/// Offset of the data offset, in a header.
pub(crate) const DATA_OFFSET: usize = 12;
/// Offset of the checksum in a header.
pub(crate) const CHECKSUM: usize = 16;

/// The control bits of a segment, as the header has them.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default)]
#[repr(transparent)]
pub struct TcpFlags(pub u8);

impl TcpFlags {
    /// No bit set; what a UDP datagram has.
    pub const NONE: TcpFlags = TcpFlags(0);
    /// The sender will send nothing more.
    pub const FIN: TcpFlags = TcpFlags(0x01);
    /// Synchronise sequence numbers.
    pub const SYN: TcpFlags = TcpFlags(0x02);
    /// Reset the connection.
    pub const RST: TcpFlags = TcpFlags(0x04);
    /// Push.
    pub const PSH: TcpFlags = TcpFlags(0x08);
    /// The acknowledgement number means something.
    pub const ACK: TcpFlags = TcpFlags(0x10);
    /// The urgent pointer means something.
    pub const URG: TcpFlags = TcpFlags(0x20);
    /// ECN echo (RFC 3168).
    pub const ECE: TcpFlags = TcpFlags(0x40);
    /// Congestion window reduced (RFC 3168).
    pub const CWR: TcpFlags = TcpFlags(0x80);

    /// True when all bits of `flags` are set.
    #[inline(always)]
    pub const fn has(self, flags: TcpFlags) -> bool {
        self.0 & flags.0 == flags.0
    }

    /// True when any bit of `flags` is set.
    #[inline(always)]
    pub const fn any(self, flags: TcpFlags) -> bool {
        self.0 & flags.0 != 0
    }

    /// The first segment of a connection: SYN without ACK, RST and FIN. One with FIN no host answers (RFC 9293 has no use
    /// for it), and it must not cost a local port.
    #[inline(always)]
    pub const fn opens(self) -> bool {
        self.0 & (Self::SYN.0 | Self::ACK.0 | Self::RST.0 | Self::FIN.0) == Self::SYN.0
    }
}

impl BitOr for TcpFlags {
    type Output = TcpFlags;

    #[inline(always)]
    fn bitor(self, other: TcpFlags) -> TcpFlags {
        TcpFlags(self.0 | other.0)
    }
}

impl BitOrAssign for TcpFlags {
    #[inline(always)]
    fn bitor_assign(&mut self, other: TcpFlags) {
        self.0 |= other.0;
    }
}

impl fmt::Debug for TcpFlags {
    /// Like tcpdump: `[S.]` is SYN and ACK.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[")?;
        for (bit, letter) in "FSRP.UEW".chars().enumerate() {
            if self.0 >> bit & 1 != 0 {
                write!(f, "{letter}")?;
            }
        }
        f.write_str("]")
    }
}

/// What a TCP state machine needs of a segment. Numbers in host byte order.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Segment {
    /// Sequence number of the first byte, or of the SYN.
    pub seq: u32,
    /// Acknowledgement number; means something with [`TcpFlags::ACK`] only.
    pub ack: u32,
    /// Window as sent, not scaled.
    pub window: u16,
    /// Control bits.
    pub flags: TcpFlags,
    /// Bytes of payload.
    pub payload_len: u16,
}

impl Segment {
    /// SEG.LEN of RFC 9293: the sequence numbers the segment occupies, SYN and FIN counting one each.
    #[inline(always)]
    pub fn seq_len(&self) -> u32 {
        u32::from(self.payload_len)
            + u32::from(self.flags.has(TcpFlags::SYN))
            + u32::from(self.flags.has(TcpFlags::FIN))
    }

    /// The sequence number behind the segment.
    #[inline(always)]
    pub fn seq_end(&self) -> u32 {
        self.seq.wrapping_add(self.seq_len())
    }
}

/// Reads a segment. For a UDP flow, or with another frame, the result means nothing.
#[inline]
pub fn segment<A: Addr>(frame: &[u8], flow: &Flow<A>) -> Segment {
    let Some(header) = flow.header::<LEN>(frame) else { return Segment::default() };
    Segment {
        seq: u32::from_be_bytes([header[4], header[5], header[6], header[7]]),
        ack: u32::from_be_bytes([header[8], header[9], header[10], header[11]]),
        window: u16::from_be_bytes([header[14], header[15]]),
        flags: flow.flags,
        payload_len: flow.payload_len(),
    }
}

/// The option bytes of a segment, empty for UDP.
#[inline]
pub fn option_bytes<'a, A: Addr>(frame: &'a [u8], flow: &Flow<A>) -> &'a [u8] {
    frame.get(usize::from(flow.l4()) + LEN..usize::from(flow.payload)).unwrap_or(&[])
}

/// The MSS option of a segment.
pub fn mss<A: Addr>(frame: &[u8], flow: &Flow<A>) -> Option<u16> {
    let bytes = option_bytes(frame, flow);
    let at = mss_at(bytes)?;
    Some(u16::from_be_bytes([*bytes.get(at)?, *bytes.get(at + 1)?]))
}

/// Lowers the MSS option of a segment by `by`, though not under [`MIN_MSS`], and updates the checksum. Returns the MSS
/// the segment has then.
///
/// Without the option nothing happens, and None: the peer then takes 536 or 1220 bytes (RFC 9293 section 3.7.1), for
/// which any path has room to spare.
pub fn lower_mss<A: Addr>(frame: &mut [u8], flow: &Flow<A>, by: u16) -> Option<u16> {
    let value_at = mss_at(option_bytes(frame, flow))?;
    let mss = mss(frame, flow)?;
    let lowered = mss.saturating_sub(by).max(MIN_MSS).min(mss);
    let header = frame.get_mut(usize::from(flow.l4())..usize::from(flow.payload))?;
    // The value may lie at an odd offset, across two words of the checksum. Swapped, its bytes add up the same
    // (RFC 1071 section 2B).
    let word = |value: u16| if value_at % 2 == 0 { value } else { value.swap_bytes() };
    let mut change = Change::default();
    change.word(word(mss), word(lowered));
    header.get_mut(LEN + value_at..)?.first_chunk_mut::<2>()?.copy_from_slice(&lowered.to_be_bytes());
    update_checksum(header, change);
    Some(lowered)
}

/// Where in the options the value of the MSS option is.
fn mss_at(options: &[u8]) -> Option<usize> {
    Options::new(options).find(|option| option.kind == options::MSS && option.len == 4).map(|option| option.at + 2)
}

/// Updates the checksum of the TCP header at the start of `header`.
#[inline(always)]
pub(crate) fn update_checksum(header: &mut [u8], change: Change) {
    if let Some(fixed) = header.first_chunk_mut::<LEN>() {
        let check = u16::from_be_bytes([fixed[CHECKSUM], fixed[CHECKSUM + 1]]);
        fixed[CHECKSUM..CHECKSUM + 2].copy_from_slice(&change.apply(check).to_be_bytes());
    }
}

#[cfg(test)]
mod tests;
