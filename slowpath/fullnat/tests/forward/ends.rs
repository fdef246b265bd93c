//! Ends of a TCP connection that send one thing at a time, through whatever is between them.

use fullnat::wire::TcpFlags;

pub const SYN: TcpFlags = TcpFlags::SYN;
pub const ACK: TcpFlags = TcpFlags::ACK;
pub const FIN: TcpFlags = TcpFlags::FIN;
pub const RST: TcpFlags = TcpFlags::RST;

/// One end of a connection. Offset 0 is its SYN, 1 its first byte. It sends one thing at a time, until it is acknowledged.
#[derive(Clone, Copy, Debug)]
pub struct End {
    pub isn: u32,
    /// What is sent, as offsets: acknowledged, and in all.
    pub acked: u32,
    pub next: u32,
    /// The next offset expected of the peer; 0 before its SYN.
    pub received: u32,
    pub fin: bool,
    pub peer_fin: bool,
    /// It reset the connection, or was reset.
    pub dead: bool,
}

impl End {
    pub fn new(isn: u32) -> Self {
        End { isn, acked: 0, next: 0, received: 0, fin: false, peer_fin: false, dead: false }
    }

    pub fn over(&self) -> bool {
        self.dead || self.fin && self.peer_fin && self.acked == self.next
    }

    pub fn ack(&self, peer_isn: u32) -> u32 {
        if self.received > 0 { peer_isn.wrapping_add(self.received) } else { 0 }
    }

    /// What is not acknowledged, or nothing.
    pub fn seg(&self, peer_isn: u32) -> Seg {
        let ack = if self.received > 0 { ACK } else { TcpFlags::NONE };
        let seq = self.isn.wrapping_add(self.acked);
        let len = self.next - self.acked;
        let (flags, len) = match (self.acked, self.fin && len > 0) {
            (0, _) => (SYN | ack, 0),
            (_, true) => (FIN | ack, len - 1),
            (_, false) => (ack, len),
        };
        Seg { flags, seq, ack: self.ack(peer_isn), len }
    }

    /// A server gets a SYN when it has no connection, or is through with it: a new one begins. Its own first number is far
    /// from the last one's, as a clock makes it (RFC 6528).
    pub fn accept(&mut self, seg: Seg, peer_isn: u32, random: u32) -> Option<Seg> {
        let opens = seg.flags.has(SYN) && !seg.flags.any(ACK | RST) && (self.over() || self.received == 0);
        opens.then(|| {
            let isn = self.isn.wrapping_add((1 << 26) + random % (u32::MAX - (1 << 27)));
            *self = End { received: 1, next: 1, ..End::new(isn) };
            self.seg(peer_isn)
        })
    }

    /// Gets any other segment; the answer (RFC 9293, section 3.10.7).
    pub fn take(&mut self, seg: Seg, peer_isn: u32) -> Option<Seg> {
        let offset = seg.seq.wrapping_sub(peer_isn);
        if seg.flags.has(RST) {
            self.dead |= self.acked == 0 || offset == self.received;
            return None;
        }
        let acked = seg.ack.wrapping_sub(self.isn);
        let unknown = self.received == 0 && acked != 1;
        if self.dead || unknown {
            return seg.flags.has(ACK).then_some(Seg { flags: RST, seq: seg.ack, ack: 0, len: 0 });
        }
        let bare = |end: &End| Seg { flags: ACK, seq: end.isn.wrapping_add(end.next), ack: end.ack(peer_isn), len: 0 };
        if seg.flags.has(SYN) && self.received > 0 && (offset != 0 || self.acked > 0) {
            // A challenge, or the SYN-ACK's acknowledgment once more.
            return Some(bare(self));
        }
        if seg.flags.has(ACK) && acked <= self.next {
            self.acked = self.acked.max(acked);
        }
        let len = seg.len + u32::from(seg.flags.any(SYN | FIN));
        if len > 0 && offset == self.received {
            self.received += len;
            self.peer_fin |= seg.flags.has(FIN);
        }
        (len > 0 && offset < self.received && self.acked > 0).then(|| bare(self))
    }
}

/// A segment on its way between ends.
#[derive(Clone, Copy, Debug)]
pub struct Seg {
    pub flags: TcpFlags,
    pub seq: u32,
    pub ack: u32,
    pub len: u32,
}
