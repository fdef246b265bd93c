//! Why a packet was dropped. Each reason has a number that never changes, a name for programs and a line for people.

macro_rules! reasons {
    ($( $number:literal $variant:ident $name:literal $text:literal; )*) => {
        /// Why a packet was dropped. The numbers are stable: they appear in metrics and, later, in punt tags.
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
        #[repr(u8)]
        pub enum DropReason {
            $( #[doc = $text] $variant = $number, )*
        }

        impl DropReason {
            /// All reasons, by number.
            pub const ALL: &[DropReason] = &[$( DropReason::$variant, )*];

            /// One more than the largest number: the size of an array indexed by reason.
            pub const SLOTS: usize = 64;

            /// The reason's name in metrics and JSON.
            pub fn name(self) -> &'static str {
                match self { $( DropReason::$variant => $name, )* }
            }

            /// What happened, in a line for people.
            pub fn text(self) -> &'static str {
                match self { $( DropReason::$variant => $text, )* }
            }
        }
    };
}

reasons! {
    // Parsing: the frame itself.
    1 Truncated "truncated" "The frame ends before a header or the length a header gives.";
    2 NotOurMac "not_our_mac" "The destination MAC address is another host's.";
    3 EtherType "ether_type" "Neither IPv4, IPv6 nor ARP.";
    4 BadIpHeader "bad_ip_header" "IP version, header length or total length is impossible.";
    5 BadIpChecksum "bad_ip_checksum" "The IPv4 header checksum is wrong.";
    6 IpOptions "ip_options" "IPv4 options or an IPv6 extension header.";
    7 Fragment "fragment" "A fragment of an IP packet.";
    8 Protocol "protocol" "An IP protocol that is not balanced.";
    9 BadL4Header "bad_l4_header" "A TCP, UDP or ICMP header that is impossible.";
    10 BadArp "bad_arp" "An ARP packet or neighbour discovery message that is malformed or forged.";
    11 BadAddress "bad_address" "A source or destination address that no packet may carry (multicast source, loopback, unspecified).";
    12 NotPunted "not_punted" "Came by the link to the switch without the switch's tag.";
    13 UnknownPort "unknown_port" "Punted by the switch from a port that is no interface of ours.";

    // Looking up: nobody the packet belongs to.
    16 NoService "no_service" "No service and no local address of ours has this destination.";
    17 NoSession "no_session" "Belongs to no session and cannot open one.";
    18 IcmpNoSession "icmp_no_session" "An ICMP message about a packet of no session.";
    19 IcmpType "icmp_type" "An ICMP message of a type that is neither answered nor translated.";
    20 OffloadRemoving "offload_removing" "The last session on this tuple is not out of the switch yet; a retransmission will find it gone.";

    21 OffloadAdopting "offload_adopting" "A session cannot begin before it is known which ones the switch has; a retransmission will find it known.";

    // Admission: a new session that could not be made.
    24 NoServer "no_server" "No real server takes new connections (none configured, all down or weight 0).";
    25 ServersFull "servers_full" "Every real server is at its max_connections.";
    26 NoLocalPort "no_local_port" "Every local port towards the real server is in use or in quarantine.";
    27 SessionTableFull "session_table_full" "The worker's session table is full.";
    28 NoRoute "no_route" "No route to the client or the real server.";
    29 NexthopTableFull "nexthop_table_full" "The next-hop table is full.";
    30 HalfOpenFull "half_open_full" "No room but that of half-open sessions too young to be given up; not answered, since a retransmission may find some.";

    // Forwarding: a packet of a session that could not leave.
    32 TtlExceeded "ttl_exceeded" "TTL or hop limit ended here; answered with ICMP within the rate limit.";
    33 PacketTooBig "packet_too_big" "Longer than the MTU of the interface it leaves by; answered with ICMP within the rate limit.";
    34 NeighborQueueFull "neighbor_queue_full" "The next hop's MAC address is not known yet and its queue is full.";
    35 NeighborFailed "neighbor_failed" "The next hop does not answer ARP or neighbour discovery.";
    36 HandoverFull "handover_full" "The ring to the worker that owns the session is full.";
    37 TxFull "tx_full" "The interface's transmit ring is full.";
    38 NoBuffer "no_buffer" "No packet buffer, or no room in the buffer, for a packet the balancer makes.";
    39 RateLimited "rate_limited" "A reply of the balancer itself (RST, ICMP, ARP) held back by its rate limit.";

    // 48 to 63 are the switch's own (p4/core/constants.p4).
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_and_names_are_unique_and_fit() {
        let mut numbers = std::collections::HashSet::new();
        let mut names = std::collections::HashSet::new();
        for &reason in DropReason::ALL {
            assert!((reason as usize) < DropReason::SLOTS);
            assert!(numbers.insert(reason as u8), "{reason:?} reuses a number");
            assert!(names.insert(reason.name()), "{reason:?} reuses a name");
        }
    }
}
