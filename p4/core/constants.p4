// Numbers that the program shares with the slow path. The Rust bindings are generated from this file: each constant is
// one line, and the `///` lines over it are its text there.

/// EtherType of IPv4.
const bit<16> ETHER_IPV4 = 0x0800;
/// EtherType of ARP.
const bit<16> ETHER_ARP = 0x0806;
/// EtherType of an 802.1Q tag: the tag of punt and inject, and VLAN tags of the network's own.
const bit<16> ETHER_TAG = 0x8100;
/// EtherType of IPv6.
const bit<16> ETHER_IPV6 = 0x86dd;

/// IANA protocol number of ICMP.
const bit<8> PROTO_ICMP = 1;
/// IANA protocol number of TCP.
const bit<8> PROTO_TCP = 6;
/// IANA protocol number of UDP.
const bit<8> PROTO_UDP = 17;
/// IANA protocol number of ICMPv6.
const bit<8> PROTO_ICMP6 = 58;

// What becomes of a packet.
/// It is dropped; the reason says why.
const bit<8> VERDICT_DROP = 0;
/// It goes to its next hop.
const bit<8> VERDICT_FORWARD = 1;
/// It goes to the slow path, tagged.
const bit<8> VERDICT_PUNT = 2;
/// It goes out of a port as it is.
const bit<8> VERDICT_SEND = 3;

// Why a packet is punted: the PCP of the tag. Three bits, all taken.
/// A TCP segment or UDP datagram that has no flow entry.
const bit<8> PUNT_MISS = 0;
/// A TCP segment with SYN, FIN or RST. The slow path owns the state of connections.
const bit<8> PUNT_TCP_CONTROL = 1;
/// TTL or hop limit is 0 or 1.
const bit<8> PUNT_TTL = 2;
/// A fragment of an IP packet.
const bit<8> PUNT_FRAGMENT = 3;
/// IPv4 options or an IPv6 extension header.
const bit<8> PUNT_OPTIONS = 4;
/// ICMP or ICMPv6, without neighbour discovery.
const bit<8> PUNT_ICMP = 5;
/// ARP, neighbour solicitation or neighbour advertisement.
const bit<8> PUNT_NEIGHBOR = 6;
/// Came with a VLAN tag of the network's own. It is still there, behind the tag of the punt.
const bit<8> PUNT_VLAN = 7;

// Why a packet is dropped: the index of the counter `drops`. Below 48 the numbers are those of the slow path's drop
// reasons of the same name; from 48 on they are the switch's own.
/// Not dropped.
const bit<8> DROP_NONE = 0;
/// The frame ends before a header does.
const bit<8> DROP_TRUNCATED = 1;
/// Neither IPv4, IPv6 nor ARP.
const bit<8> DROP_ETHER_TYPE = 3;
/// IP version or header length is impossible.
const bit<8> DROP_BAD_IP_HEADER = 4;
/// An IP protocol that is not balanced.
const bit<8> DROP_PROTOCOL = 8;
/// An ARP packet that is not IPv4 over Ethernet.
const bit<8> DROP_BAD_ARP = 10;
/// No service and no local address of ours has this destination.
const bit<8> DROP_NO_SERVICE = 16;
/// Held back by the meter of its service.
const bit<8> DROP_PUNT_LIMITED = 48;
/// Its flow entry, or the slow path, named a next hop that has no entry.
const bit<8> DROP_NO_NEXTHOP = 49;
/// Its service or local address named a worker that has no entry in `slowpath`.
const bit<8> DROP_NO_WORKER = 50;
/// The slow path sent it with a PCP other than 0 and 1.
const bit<8> DROP_BAD_INJECT = 51;
/// The slow path sent it to a port that has no entry in `port`.
const bit<8> DROP_NO_PORT = 52;

// What the slow path wants with a frame: the PCP of the tag it puts in front.
/// The VID is a next-hop id: MAC addresses and port are that entry's.
const bit<8> INJECT_NEXTHOP = 0;
/// The VID is an egress port: the frame goes out as it is.
const bit<8> INJECT_PORT = 1;
