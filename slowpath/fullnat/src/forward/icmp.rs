//! ICMP and ICMPv6: echo for our addresses, errors about packets of a session.

use crate::addr::Addr;
use crate::flow::Direction;
use crate::forward::{Desk, Family, Output, Rx};
use crate::frame::Frame;
use crate::plan::Own;
use crate::reason::DropReason;
use crate::wire::icmp::{self, IcmpPacket, Message};
use crate::wire::icmp_error::{self, Quote};
use crate::wire::{ethernet, reply, toa};

impl<F: Frame> Desk<F> {
    /// Answers, translates or drops an ICMP packet.
    #[cold]
    pub(super) fn icmp<A: Addr>(
        &mut self,
        rx: Rx<'_>,
        family: &mut Family<A>,
        frame: F,
        packet: &IcmpPacket<A>,
        out: &mut impl Output<F>,
    ) {
        match icmp::message(frame.bytes(), packet) {
            Err(reason) => self.counters.count_drop(reason),
            Ok(Message::Error(quote)) => self.icmp_error(rx, family, frame, packet, &quote, out),
            Ok(_) if rx.plan.own(packet.dst.into()).is_none() => self.counters.count_drop(DropReason::NoService),
            Ok(Message::EchoRequest) => self.echo(rx, frame, packet, out),
            Ok(Message::EchoReply | Message::Neighbor | Message::Other) => {
                self.counters.count_drop(DropReason::IcmpType)
            }
        }
    }

    fn echo<A: Addr>(&mut self, rx: Rx<'_>, mut frame: F, packet: &IcmpPacket<A>, out: &mut impl Output<F>) {
        if !self.icmp_limit.allow(rx.now) {
            return self.counters.count_drop(DropReason::RateLimited);
        }
        reply::echo(frame.bytes_mut(), packet, rx.plan.interface(rx.iface).mac);
        self.counters.echo_answered.add(1);
        out.transmit(rx.iface, frame);
    }

    /// Sends an error about a packet of a session on to the side that sent that packet.
    ///
    /// ```text
    ///  about inbound:   router ─▶ LIP, quoting LIP:lport → RIP:rport   becomes  VIP ─▶ CIP, quoting CIP:cport → VIP:vport
    ///  about outbound:  router ─▶ VIP, quoting VIP:vport → CIP:cport   becomes  LIP ─▶ RIP, quoting RIP:rport → LIP:lport
    /// ```
    ///
    /// Outside it carries our address, not the router's: neither side has a route to, or a reason to believe, a router of
    /// the other's network. LVS does the same.
    fn icmp_error<A: Addr>(
        &mut self,
        rx: Rx<'_>,
        family: &mut Family<A>,
        mut frame: F,
        packet: &IcmpPacket<A>,
        quote: &Quote<A>,
        out: &mut impl Output<F>,
    ) {
        // The error travels as an answer to the quoted packet would.
        let key = quote.key.reversed();
        let hash = family.sessions.hash(&key);
        let Some((idx, direction)) = family.sessions.find(&key, hash) else {
            let owner = match rx.plan.own_or_former(key.dst.into()) {
                Some(Own::Lip) => self.spread.outbound(self.worker, rx.iface, &key),
                Some(Own::Vip) => self.spread.inbound(self.worker, rx.iface, &key, hash),
                Some(Own::Interface(_)) | None => self.worker,
            };
            return match owner {
                here if here == self.worker => self.counters.count_drop(DropReason::IcmpNoSession),
                owner => out.hand_over(owner, rx.iface, frame),
            };
        };
        if packet.ttl <= 1 {
            return self.counters.count_drop(DropReason::TtlExceeded);
        }
        if packet.dst != key.dst {
            return self.counters.count_drop(DropReason::IcmpNoSession);
        }
        let Some(session) = family.sessions.get(idx) else { return };
        let rewrite = session.rewrite(direction);
        let Some(hop) = self.neighbors.hop(rewrite.nexthop) else {
            return self.counters.count_drop(DropReason::NeighborFailed);
        };
        // No error may be sent about an error (RFC 1122, 3.2.2), so one that does not fit is lost.
        if packet.end - ethernet::LEN as u16 > rx.plan.interface(hop.iface).mtu {
            return self.counters.count_drop(DropReason::PacketTooBig);
        }
        let (inner, added) = match direction {
            Direction::Outbound => {
                (session.key(Direction::Inbound), if session.wants_toa() { toa::len::<A>() as u16 } else { 0 })
            }
            Direction::Inbound => (session.key(Direction::Outbound), 0),
        };
        icmp_error::translate(frame.bytes_mut(), packet, quote, (rewrite.src, rewrite.dst), &inner, added);
        self.counters.icmp_translated.add(1);
        self.emit(rx, rewrite.nexthop, hop, frame, out);
    }
}
