//! The tag between switch and slow path: four bytes of 802.1Q behind the MAC addresses.

use std::fmt;

use crate::generated::{ETHER_TAG, Inject, Punt};

/// Offset of the tag in a frame: behind the two MAC addresses.
const AT: usize = 12;
/// Length of the tag, bytes.
const LEN: usize = 4;
/// Largest VID, and so the largest next-hop id and port number a tag can name.
const MAX_VID: u16 = 0xfff;

/// The tag of a punted frame.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Tag {
    /// Why the switch did not forward the frame itself.
    pub why: Punt,
    /// The port by which it came, the low 12 bits of the target's number.
    pub ingress_port: u16,
}

/// The frame has no tag of the switch.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct TagSyntax;

impl fmt::Display for TagSyntax {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the frame does not start with an 802.1Q tag")
    }
}

impl std::error::Error for TagSyntax {}

impl Tag {
    /// Reads the tag of a punted frame. The frame as it was received is the 12 bytes before the tag, then what is behind
    /// its four bytes.
    ///
    /// # Errors
    ///
    /// The frame is too short or has no tag.
    #[inline]
    pub fn read(frame: &[u8]) -> Result<Self, TagSyntax> {
        let tag: &[u8; LEN] = frame.get(AT..).and_then(|rest| rest.first_chunk()).ok_or(TagSyntax)?;
        if u16::from_be_bytes([tag[0], tag[1]]) != ETHER_TAG {
            return Err(TagSyntax);
        }
        let tci = u16::from_be_bytes([tag[2], tag[3]]);
        // Three bits have eight values, and all of them have a meaning.
        let why = Punt::from_number((tci >> 13) as u8).ok_or(TagSyntax)?;
        Ok(Tag { why, ingress_port: tci & MAX_VID })
    }
}

/// The tag that has the switch send a frame to a next hop: to be put behind the MAC addresses, which the switch
/// replaces. `None` for an id that a tag cannot name.
#[inline]
pub fn inject_to_nexthop(nexthop: u16) -> Option<[u8; LEN]> {
    inject(Inject::Nexthop, nexthop)
}

/// The tag that has the switch send a frame out of a port as it is. `None` for a number that a tag cannot name.
#[inline]
pub fn inject_to_port(port: u16) -> Option<[u8; LEN]> {
    inject(Inject::Port, port)
}

#[inline]
fn inject(what: Inject, vid: u16) -> Option<[u8; LEN]> {
    if vid > MAX_VID {
        return None;
    }
    let [ether_hi, ether_lo] = ETHER_TAG.to_be_bytes();
    let [hi, lo] = ((what as u16) << 13 | vid).to_be_bytes();
    Some([ether_hi, ether_lo, hi, lo])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_punted_frame_says_why_and_from_where() {
        let mut frame = [0; 18];
        frame[12..16].copy_from_slice(&[0x81, 0, 0x4f, 0xff]);
        assert_eq!(Tag::read(&frame), Ok(Tag { why: Punt::Ttl, ingress_port: 0xfff }));
        frame[12..16].copy_from_slice(&[0x81, 0, 0xe0, 0x05]);
        assert_eq!(Tag::read(&frame), Ok(Tag { why: Punt::Vlan, ingress_port: 5 }));
        assert_eq!(Tag::read(&frame[..15]), Err(TagSyntax));
        assert_eq!(Tag::read(&[0x08; 60]), Err(TagSyntax));
    }

    #[test]
    fn injects_name_a_next_hop_or_a_port() {
        assert_eq!(inject_to_nexthop(0x123), Some([0x81, 0x00, 0x01, 0x23]));
        assert_eq!(inject_to_port(0xfff), Some([0x81, 0x00, 0x2f, 0xff]));
        assert_eq!(inject_to_nexthop(0x1000), None);
        assert_eq!(inject_to_port(u16::MAX), None);
    }
}
