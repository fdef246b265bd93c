//! What the balancer says for itself: RST and ICMP errors, within a rate limit.

use std::net::IpAddr;

use crate::addr::Addr;
use crate::forward::{Desk, Output, Rx};
use crate::frame::Frame;
use crate::id::Proto;
use crate::reason::DropReason;
use crate::wire::Flow;
use crate::wire::reply::{self, IcmpError, NoReply};

impl<F: Frame> Desk<F> {
    /// Drops a packet whose TTL ends here and tells its sender.
    #[cold]
    pub(super) fn ttl_exceeded<A: Addr>(&mut self, rx: Rx<'_>, frame: F, flow: &Flow<A>, out: &mut impl Output<F>) {
        self.counters.count_drop(DropReason::TtlExceeded);
        self.icmp_reply(rx, frame, flow, IcmpError::TimeExceeded, out);
    }

    /// Drops a packet that does not fit the link it should leave by and tells its sender.
    #[cold]
    pub(super) fn too_big<A: Addr>(
        &mut self,
        rx: Rx<'_>,
        frame: F,
        flow: &Flow<A>,
        mtu: u16,
        out: &mut impl Output<F>,
    ) {
        self.counters.count_drop(DropReason::PacketTooBig);
        self.icmp_reply(rx, frame, flow, IcmpError::TooBig { mtu }, out);
    }

    /// Drops the first packet of a session that could not be made and tells the client, so that it need not wait for a
    /// timeout: RST for TCP, port unreachable for UDP. Not if it may get in when it tries again.
    pub(super) fn refuse<A: Addr>(
        &mut self,
        rx: Rx<'_>,
        mut frame: F,
        flow: &Flow<A>,
        reason: DropReason,
        out: &mut impl Output<F>,
    ) {
        self.counters.count_drop(reason);
        if reason == DropReason::HalfOpenFull {
            return;
        }
        if flow.key.proto == Proto::Udp {
            return self.icmp_reply(rx, frame, flow, IcmpError::PortUnreachable, out);
        }
        if !self.reset_limit.allow(rx.now) {
            return self.counters.replies_limited.add(1);
        }
        let made = reply::tcp_reset(&mut frame, flow, rx.plan.interface(rx.iface).mac);
        if self.made(made) {
            self.counters.rst_sent.add(1);
            out.transmit(rx.iface, frame);
        }
    }

    /// Turns the frame, still as received, into an ICMP error and sends it back.
    fn icmp_reply<A: Addr>(
        &mut self,
        rx: Rx<'_>,
        mut frame: F,
        flow: &Flow<A>,
        error: IcmpError,
        out: &mut impl Output<F>,
    ) {
        if !self.icmp_limit.allow(rx.now) {
            return self.counters.replies_limited.add(1);
        }
        // From the interface's own address, as a router, if it has one that is good beyond the link; else from the address
        // the packet was for.
        let interface = rx.plan.interface(rx.iface);
        let mut own = interface.addresses.iter().map(|&(ip, _)| ip).filter(|&ip| !is_link_local(ip));
        let src = own.find_map(A::from_ip).unwrap_or(flow.key.dst);
        let made = reply::icmp_error(&mut frame, error, src, interface.mac);
        if self.made(made) {
            self.counters.icmp_sent.add(1);
            out.transmit(rx.iface, frame);
        }
    }

    /// Whether there is a reply to send. The packet it would answer has been counted as dropped already.
    fn made(&self, made: Result<(), NoReply>) -> bool {
        if made == Err(NoReply::NoRoom) {
            self.counters.replies_limited.add(1);
        }
        made.is_ok()
    }
}

fn is_link_local(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(ip) => ip.is_link_local(),
        IpAddr::V6(ip) => ip.is_unicast_link_local(),
    }
}
