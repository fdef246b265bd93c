//! ARP for IPv4 over Ethernet (RFC 826, RFC 5227).

use std::net::Ipv4Addr;

use crate::frame::Frame;
use crate::reason::DropReason;
use crate::wire::{Mac, ethernet, ipv4};

/// Length of a packet, bytes.
pub const LEN: usize = 28;
/// Offset behind the ARP packet in a frame.
const END: usize = ethernet::LEN + LEN;

/// Hardware type Ethernet, protocol type IPv4, and the lengths of their addresses: how every packet starts.
const ETHERNET_IPV4: [u8; 6] = [0, 1, 8, 0, 6, 4];

/// What an ARP packet wants.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum Op {
    /// Who has the target address?
    Request = 1,
    /// The sender has the sender address.
    Reply = 2,
}

/// An ARP packet.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ArpPacket {
    /// Request or reply.
    pub op: Op,
    /// The sender's MAC address; a host's, never a group.
    pub sender_mac: Mac,
    /// The sender's address; 0.0.0.0 in a probe (RFC 5227), for which nobody learns anything.
    pub sender: Ipv4Addr,
    /// In a reply, whom it is for. Means nothing in a request.
    pub target_mac: Mac,
    /// The address asked for, or whom the reply is for.
    pub target: Ipv4Addr,
}

/// Reads an ARP packet from a frame of that EtherType.
pub(crate) fn parse(frame: &[u8]) -> Result<ArpPacket, DropReason> {
    let Some(head) = frame.first_chunk::<END>() else { return Err(DropReason::Truncated) };
    let Some(arp) = head.last_chunk::<LEN>() else { return Err(DropReason::Truncated) };
    let op = match [arp[6], arp[7]] {
        [0, 1] => Op::Request,
        [0, 2] => Op::Reply,
        _ => return Err(DropReason::BadArp),
    };
    let packet = ArpPacket {
        op,
        sender_mac: mac(arp, 8),
        sender: address(arp, 14),
        target_mac: mac(arp, 18),
        target: address(arp, 24),
    };
    let sender_is_sane = packet.sender == Ipv4Addr::UNSPECIFIED || !ipv4::is_never_forwarded(packet.sender);
    let sane = arp.starts_with(&ETHERNET_IPV4)
        && packet.sender_mac.is_host()
        && sender_is_sane
        && !ipv4::is_never_forwarded(packet.target);
    if sane { Ok(packet) } else { Err(DropReason::BadArp) }
}

fn mac(arp: &[u8; LEN], at: usize) -> Mac {
    Mac([arp[at], arp[at + 1], arp[at + 2], arp[at + 3], arp[at + 4], arp[at + 5]])
}

fn address(arp: &[u8; LEN], at: usize) -> Ipv4Addr {
    Ipv4Addr::new(arp[at], arp[at + 1], arp[at + 2], arp[at + 3])
}

/// Writes a packet into a frame. `to` is the Ethernet destination. The frame is 42 bytes then; padding to the Ethernet
/// minimum is the interface's.
fn emit<F: Frame>(frame: &mut F, to: Mac, packet: &ArpPacket) -> bool {
    if !frame.set_len(END) {
        return false;
    }
    let bytes = frame.bytes_mut();
    ethernet::set_addresses(bytes, to, packet.sender_mac);
    let Some(head) = bytes.first_chunk_mut::<END>() else { return false };
    head[12..14].copy_from_slice(&ethernet::ARP.to_be_bytes());
    let Some(arp) = head.last_chunk_mut::<LEN>() else { return false };
    arp[..6].copy_from_slice(&ETHERNET_IPV4);
    arp[6..8].copy_from_slice(&[0, packet.op as u8]);
    arp[8..14].copy_from_slice(&packet.sender_mac.0);
    arp[14..18].copy_from_slice(&packet.sender.octets());
    arp[18..24].copy_from_slice(&packet.target_mac.0);
    arp[24..].copy_from_slice(&packet.target.octets());
    true
}

/// Turns a request into the reply that its target address is at `mac`. False when the buffer has no room.
#[must_use]
pub fn reply<F: Frame>(frame: &mut F, request: &ArpPacket, mac: Mac) -> bool {
    let reply = ArpPacket {
        op: Op::Reply,
        sender_mac: mac,
        sender: request.target,
        target_mac: request.sender_mac,
        target: request.sender,
    };
    emit(frame, request.sender_mac, &reply)
}

/// Makes the request who has `target`, asked by `sender` at `mac`. `to` is [`Mac::BROADCAST`], or the address `target`
/// had last, to see whether it still has it (RFC 1122 section 2.3.2.1). False when the buffer has no room.
#[must_use]
pub fn request<F: Frame>(frame: &mut F, to: Mac, (mac, sender): (Mac, Ipv4Addr), target: Ipv4Addr) -> bool {
    emit(frame, to, &ArpPacket { op: Op::Request, sender_mac: mac, sender, target_mac: Mac::ZERO, target })
}

/// Makes the announcement that `addr` is at `mac`, for all to learn (RFC 5227 section 2.3). False when the buffer has
/// no room.
#[must_use]
pub fn announce<F: Frame>(frame: &mut F, mac: Mac, addr: Ipv4Addr) -> bool {
    request(frame, Mac::BROADCAST, (mac, addr), addr)
}

#[cfg(test)]
mod tests;
