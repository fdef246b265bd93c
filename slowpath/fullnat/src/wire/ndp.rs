//! Neighbour discovery (RFC 4861): solicitations and advertisements.

use std::net::Ipv6Addr;

use crate::addr::Addr;
use crate::frame::Frame;
use crate::reason::DropReason;
use crate::wire::icmp::{self, IcmpPacket};
use crate::wire::{Mac, checksum, ethernet, ipv6};

/// Length of a solicitation or advertisement without options, bytes: ICMPv6 header and target.
const LEN: usize = 24;
/// The link-layer address option: kind, length in units of 8 bytes, MAC address.
const OPTION_LEN: usize = 8;
/// Offset behind the messages we make, in a frame.
const END: usize = ipv6::END + LEN + OPTION_LEN;
/// The hop limit of a message that crossed no router.
const HOP_LIMIT: u8 = 255;

const SOURCE_LINK_LAYER: u8 = 1;
const TARGET_LINK_LAYER: u8 = 2;

/// Flags of an advertisement.
const SOLICITED: u8 = 0x40;
const OVERRIDE: u8 = 0x20;

/// A neighbour discovery message that is valid by RFC 4861 sections 7.1.1 and 7.1.2.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Neighbor {
    /// Who has `target`?
    Solicitation {
        /// Who asks; unspecified when a host checks whether an address is free (RFC 4862), from which nobody learns.
        from: Ipv6Addr,
        /// The address asked for.
        target: Ipv6Addr,
        /// Where the asker is, if told.
        mac: Option<Mac>,
    },
    /// `target` is at `mac`.
    Advertisement {
        /// The address told about.
        target: Ipv6Addr,
        /// Where it is. An answer to a unicast solicitation may leave that out.
        mac: Option<Mac>,
        /// It answers a solicitation.
        solicited: bool,
        /// It replaces what was known before.
        replaces: bool,
    },
}

/// True when these addresses, of which at least one is none to forward, are right for a message of the link: ICMPv6
/// router or neighbour discovery may go to a group, or come from the unspecified address.
#[cold]
pub(crate) fn may_have_addresses(body: &[u8], next_header: u8, src: Ipv6Addr, dst: Ipv6Addr) -> bool {
    next_header == ipv6::ICMP
        && matches!(body.first(), Some(133..=137))
        && (src.is_unspecified() || !ipv6::is_never_forwarded(src))
        && (dst.is_multicast() || !ipv6::is_never_forwarded(dst))
}

/// Reads a neighbour solicitation or advertisement.
///
/// # Errors
///
/// [`DropReason::BadArp`] when it is neither, crossed a router, has a wrong checksum or breaks a rule of RFC 4861.
pub fn parse(frame: &[u8], packet: &IcmpPacket<Ipv6Addr>) -> Result<Neighbor, DropReason> {
    let message = packet.message(frame);
    let Some((head, options)) = message.split_first_chunk::<LEN>() else { return Err(DropReason::BadArp) };
    let target = Ipv6Addr::read(&head[8..]);
    if packet.ttl != HOP_LIMIT || packet.code != 0 || target.is_multicast() || !checksum_is_right(packet, message) {
        return Err(DropReason::BadArp);
    }
    let options = LinkLayer::read(options).ok_or(DropReason::BadArp)?;
    let message = match packet.kind {
        icmp::NEIGHBOR_SOLICITATION => Neighbor::Solicitation { from: packet.src, target, mac: options.source },
        icmp::NEIGHBOR_ADVERTISEMENT => Neighbor::Advertisement {
            target,
            mac: options.target,
            solicited: head[4] & SOLICITED != 0,
            replaces: head[4] & OVERRIDE != 0,
        },
        _ => return Err(DropReason::BadArp),
    };
    let valid = match message {
        Neighbor::Solicitation { from, target, mac } => {
            !from.is_unspecified() || (mac.is_none() && packet.dst == ipv6::solicited_node(target))
        }
        Neighbor::Advertisement { solicited, .. } => {
            !(packet.src.is_unspecified() || (packet.dst.is_multicast() && solicited))
        }
    };
    if valid { Ok(message) } else { Err(DropReason::BadArp) }
}

fn checksum_is_right(packet: &IcmpPacket<Ipv6Addr>, message: &[u8]) -> bool {
    let pseudo = checksum::pseudo_header(packet.src, packet.dst, ipv6::ICMP, message.len() as u16);
    checksum::finish(pseudo + u32::from(checksum::sum(message))) == 0
}

/// The link-layer address options of a message.
#[derive(Default)]
struct LinkLayer {
    source: Option<Mac>,
    target: Option<Mac>,
}

impl LinkLayer {
    /// None when an option has no length or passes the end, or the MAC address is no host's. Other options are skipped.
    fn read(mut options: &[u8]) -> Option<LinkLayer> {
        let mut found = LinkLayer::default();
        while let [kind, units, ..] = *options {
            let (option, rest) = options.split_at_checked(usize::from(units) * 8)?;
            let field = match kind {
                SOURCE_LINK_LAYER => Some(&mut found.source),
                TARGET_LINK_LAYER => Some(&mut found.target),
                _ => None,
            };
            if let Some(field) = field {
                let &[_, _, a, b, c, d, e, f] = option else { return None };
                let mac = Mac([a, b, c, d, e, f]);
                if !mac.is_host() {
                    return None;
                }
                *field = Some(mac);
            }
            if units == 0 {
                return None;
            }
            options = rest;
        }
        options.is_empty().then_some(found)
    }
}

/// A message to make.
struct Emit {
    /// Ethernet destination.
    to: Mac,
    src: Ipv6Addr,
    dst: Ipv6Addr,
    kind: u8,
    flags: u8,
    target: Ipv6Addr,
    option: u8,
    /// Ethernet source, and the value of the option.
    mac: Mac,
}

impl Emit {
    fn into_frame<F: Frame>(self, frame: &mut F) -> bool {
        if !frame.set_len(END) {
            return false;
        }
        let bytes = frame.bytes_mut();
        ethernet::set_addresses(bytes, self.to, self.mac);
        let Some(bytes) = bytes.first_chunk_mut::<END>() else { return false };
        bytes[12..14].copy_from_slice(&ethernet::IPV6.to_be_bytes());
        let (head, message) = bytes.split_at_mut(ipv6::END);
        let Some(ip) = head.last_chunk_mut::<{ ipv6::LEN }>() else { return false };
        let len = message.len() as u16;
        ipv6::write_header(ip, self.src, self.dst, ipv6::ICMP, HOP_LIMIT, len);
        message[..8].copy_from_slice(&[self.kind, 0, 0, 0, self.flags, 0, 0, 0]);
        message[8..LEN].copy_from_slice(&self.target.octets());
        message[LEN] = self.option;
        message[LEN + 1] = (OPTION_LEN / 8) as u8;
        message[LEN + 2..].copy_from_slice(&self.mac.0);
        let pseudo = checksum::pseudo_header(self.src, self.dst, ipv6::ICMP, len);
        let check = checksum::finish(pseudo + u32::from(checksum::sum(message)));
        message[icmp::CHECKSUM..icmp::CHECKSUM + 2].copy_from_slice(&check.to_be_bytes());
        true
    }
}

/// Turns the solicitation for `target` that came from `from` into the answer that it is at `mac`. An asker without an
/// address (see [`Neighbor::Solicitation`]) is answered through the all-nodes group (RFC 4861 section 7.2.4). False when
/// the buffer has no room.
#[must_use]
pub fn reply<F: Frame>(frame: &mut F, from: Ipv6Addr, target: Ipv6Addr, mac: Mac) -> bool {
    let (to, dst, flags) = if from.is_unspecified() {
        (Mac::multicast_v6(ipv6::ALL_NODES), ipv6::ALL_NODES, OVERRIDE)
    } else {
        (ethernet::source(frame.bytes()), from, SOLICITED | OVERRIDE)
    };
    Emit { to, src: target, dst, kind: icmp::NEIGHBOR_ADVERTISEMENT, flags, target, option: TARGET_LINK_LAYER, mac }
        .into_frame(frame)
}

/// Makes the solicitation who has `target`, asked by `sender` at `mac`. `known` is the MAC address the target had last,
/// to see whether it still has it; without it the target's solicited-node group is asked. False when the buffer has no
/// room.
#[must_use]
pub fn solicit<F: Frame>(frame: &mut F, known: Option<Mac>, (mac, sender): (Mac, Ipv6Addr), target: Ipv6Addr) -> bool {
    let (to, dst) = match known {
        Some(known) => (known, target),
        None => {
            let group = ipv6::solicited_node(target);
            (Mac::multicast_v6(group), group)
        }
    };
    let kind = icmp::NEIGHBOR_SOLICITATION;
    Emit { to, src: sender, dst, kind, flags: 0, target, option: SOURCE_LINK_LAYER, mac }.into_frame(frame)
}

/// Makes the announcement that `addr` is at `mac`, to all nodes (RFC 4861 section 7.2.6). False when the buffer has no
/// room.
#[must_use]
pub fn announce<F: Frame>(frame: &mut F, mac: Mac, addr: Ipv6Addr) -> bool {
    Emit {
        to: Mac::multicast_v6(ipv6::ALL_NODES),
        src: addr,
        dst: ipv6::ALL_NODES,
        kind: icmp::NEIGHBOR_ADVERTISEMENT,
        flags: OVERRIDE,
        target: addr,
        option: TARGET_LINK_LAYER,
        mac,
    }
    .into_frame(frame)
}

#[cfg(test)]
mod tests;
