//! ARP and neighbour discovery: our addresses are answered for, next hops learned.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::addr::Addr;
use crate::forward::{Desk, Family, Output, Rx};
use crate::frame::Frame;
use crate::id::IfaceId;
use crate::plan::{Own, Plan};
use crate::reason::DropReason;
use crate::wire::Mac;
use crate::wire::arp::{self, ArpPacket, Op};
use crate::wire::icmp::IcmpPacket;
use crate::wire::ndp::{self, Neighbor};

impl<F: Frame> Desk<F> {
    /// Learns from an ARP packet, and answers a request for an address of ours.
    #[cold]
    pub(super) fn arp(
        &mut self,
        rx: Rx<'_>,
        family: &Family<Ipv4Addr>,
        mut frame: F,
        packet: &ArpPacket,
        out: &mut impl Output<F>,
    ) {
        let for_us = family.answers(rx, packet.target);
        if !packet.sender.is_unspecified() {
            let solicited = packet.op == Op::Reply && for_us;
            self.learn(rx, packet.sender.into(), packet.sender_mac, solicited, out);
        }
        if packet.op != Op::Request || !for_us {
            return self.counters.neighbor_heard.add(1);
        }
        if arp::reply(&mut frame, packet, rx.plan.interface(rx.iface).mac) {
            self.counters.neighbor_answered.add(1);
            out.transmit(rx.iface, frame);
        } else {
            self.counters.count_drop(DropReason::NoBuffer);
        }
    }

    /// Learns from a neighbour discovery message, and answers a solicitation for an address of ours.
    #[cold]
    pub(super) fn neighbor_discovery(
        &mut self,
        rx: Rx<'_>,
        family: &Family<Ipv6Addr>,
        mut frame: F,
        packet: &IcmpPacket<Ipv6Addr>,
        out: &mut impl Output<F>,
    ) {
        match ndp::parse(frame.bytes(), packet) {
            Err(reason) => self.counters.count_drop(reason),
            Ok(Neighbor::Advertisement { target, mac, solicited, replaces }) => {
                // An answer to a unicast probe may leave its MAC address out: the one asked is still the one.
                let known = || crate::wire::ethernet::source(frame.bytes());
                self.counters.neighbor_heard.add(1);
                if replaces || solicited {
                    self.learn(rx, target.into(), mac.unwrap_or_else(known), solicited, out);
                }
            }
            Ok(Neighbor::Solicitation { from, target, mac }) => {
                if let Some(mac) = mac.filter(|_| !from.is_unspecified()) {
                    self.learn(rx, from.into(), mac, false, out);
                }
                if !family.answers(rx, target) {
                    return self.counters.neighbor_heard.add(1);
                }
                if ndp::reply(&mut frame, from, target, rx.plan.interface(rx.iface).mac) {
                    self.counters.neighbor_answered.add(1);
                    out.transmit(rx.iface, frame);
                } else {
                    self.counters.count_drop(DropReason::NoBuffer);
                }
            }
        }
    }

    /// Takes a next hop's MAC address, and sends what waited for it.
    fn learn(&mut self, rx: Rx<'_>, address: IpAddr, mac: Mac, solicited: bool, out: &mut impl Output<F>) {
        if self.neighbors.learn(rx.iface, address, mac, rx.now, solicited) {
            self.send_pending(rx.plan, rx.now, out);
        }
    }
}

impl<A: Addr> Family<A> {
    /// Whether the asker on this interface is to be answered for `address`: one of ours, or a local address that a reload
    /// took away while this worker still has sessions over it. Sessions of a local address are spread over all workers,
    /// so whichever is asked has some as long as there are many.
    fn answers(&self, rx: Rx<'_>, address: A) -> bool {
        let ip = address.into();
        answers(rx.plan, rx.iface, ip)
            || rx.plan.own(ip).is_none()
                && rx.plan.own_or_former(ip) == Some(Own::Lip)
                && is_asked_here(rx.plan, rx.iface, ip)
                && self.ports.uses(address)
    }
}

/// Whether an address of ours is answered for on this interface.
pub(super) fn answers(plan: &Plan, iface: IfaceId, address: IpAddr) -> bool {
    match plan.own(address) {
        None => false,
        Some(Own::Interface(own)) => own == iface,
        Some(Own::Vip | Own::Lip) => is_asked_here(plan, iface, address),
    }
}

/// An address is answered for on the interface whose link it is on, and one that is on no link of ours (routed to us) on
/// every interface, where somebody may believe it on-link.
fn is_asked_here(plan: &Plan, iface: IfaceId, address: IpAddr) -> bool {
    plan.on_link(address).is_none_or(|link| link == iface)
}
