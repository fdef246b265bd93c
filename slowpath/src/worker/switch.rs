//! The tag between switch and slow path: off on receive, on before transmit.
//!
//! ```text
//!  punted frame    │ MAC addresses │ 802.1Q: reason, ingress port │ EtherType …   ─▶ interface, frame as it came
//!  injected frame  │ MAC addresses │ 802.1Q: to a port, its number │ EtherType …   ◀─ interface, frame as it goes
//! ```
//!
//! Frames for the wire have their MAC addresses already, so all that is sent names an egress port, and none a next hop.

use std::sync::Arc;

use carom_p4::Tag;
use dpdk::{Burst, Mbuf};
use fullnat::counters::{Counter, Counters};
use fullnat::forward::{Forwarder, Output};
use fullnat::frame::Frame;
use fullnat::id::IfaceId;
use fullnat::reason::DropReason;
use fullnat::time::Time;

use super::{BURST, receive_by_port};

/// Length of a tag.
const TAG: usize = 4;
/// The two MAC addresses in front of a tag.
const MACS: usize = 12;
/// Port numbers that a tag can name.
const PORTS: usize = 1 << 12;
/// In place of an interface, where a port is none.
const NONE: u8 = u8::MAX;

/// Which port of the switch is which interface, and the tags that lead out of them. Clones count together, and belong to one
/// worker.
#[derive(Clone, Debug)]
pub struct Ports {
    ifaces: Box<[u8; PORTS]>,
    /// By interface.
    tags: Vec<[u8; TAG]>,
    traffic: Arc<[PortTraffic]>,
}

/// What a worker had from a port of the switch, and sent by it. Bytes are without tag and FCS.
#[derive(Debug, Default)]
pub struct PortTraffic {
    /// Frames that the switch punted.
    pub rx_packets: Counter,
    /// Their bytes.
    pub rx_bytes: Counter,
    /// Frames given to the link for this port.
    pub tx_packets: Counter,
    /// Their bytes.
    pub tx_bytes: Counter,
}

/// Why ports of a switch cannot be interfaces.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum PortsError {
    /// Its number does not fit a tag.
    #[error("port {0} of the switch has a number that no tag can name; 4095 is the largest")]
    Number(u16),
    /// Two interfaces have it.
    #[error("port {0} of the switch is two interfaces")]
    Twice(u16),
    /// So many that some have no number.
    #[error("{0} interfaces; 255 are the most")]
    TooMany(usize),
}

impl Ports {
    /// The switch's port of each interface.
    ///
    /// # Errors
    ///
    /// A port twice or with a number above 4095, or more than 255 of them.
    pub fn new(ports: impl IntoIterator<Item = u16>) -> Result<Self, PortsError> {
        let (mut ifaces, mut tags) = (Box::new([NONE; PORTS]), Vec::new());
        for port in ports {
            let tag = carom_p4::inject_to_port(port).ok_or(PortsError::Number(port))?;
            let iface = u8::try_from(tags.len()).ok().filter(|&iface| iface != NONE);
            let iface = iface.ok_or(PortsError::TooMany(tags.len() + 1))?;
            // A tag can name it, so it is less than PORTS.
            let place = &mut ifaces[usize::from(port)];
            if std::mem::replace(place, iface) != NONE {
                return Err(PortsError::Twice(port));
            }
            tags.push(tag);
        }
        let traffic = tags.iter().map(|_| PortTraffic::default()).collect();
        Ok(Ports { ifaces, tags, traffic })
    }

    /// What was counted so far, by interface.
    pub fn traffic(&self) -> Arc<[PortTraffic]> {
        Arc::clone(&self.traffic)
    }

    /// Takes the tag off a punted frame, counts why it was punted, and says which interface it came by.
    ///
    /// # Errors
    ///
    /// The reason to drop the frame for, which is unchanged then: it has no tag, or came by a port that is no interface.
    #[inline(always)]
    pub fn untag(&self, frame: &mut impl Frame, counters: &Counters) -> Result<IfaceId, DropReason> {
        let tag = Tag::read(frame.bytes()).map_err(|_| DropReason::NotPunted)?;
        let iface = match self.ifaces.get(usize::from(tag.ingress_port)) {
            Some(&iface) if iface != NONE => IfaceId(iface),
            _ => return Err(DropReason::UnknownPort),
        };
        counters.count_punt(tag.why as u8);
        // A frame with a tag is longer than addresses and tag.
        frame.bytes_mut().copy_within(..MACS, TAG);
        frame.shrink_front(TAG);
        if let Some(traffic) = self.traffic.get(usize::from(iface.0)) {
            traffic.rx_packets.add(1);
            traffic.rx_bytes.add(frame.bytes().len() as u64);
        }
        Ok(iface)
    }

    /// Puts the tag in front that sends a frame out of an interface's port. False, with the frame unusable, when there is
    /// no room in front of it.
    #[inline(always)]
    #[must_use]
    pub fn tag(&self, iface: IfaceId, frame: &mut impl Frame) -> bool {
        let place = usize::from(iface.0);
        let (Some(tag), Some(traffic)) = (self.tags.get(place), self.traffic.get(place)) else { return false };
        let len = frame.bytes().len();
        if !frame.grow_front(TAG) {
            return false;
        }
        traffic.tx_packets.add(1);
        traffic.tx_bytes.add(len as u64);
        let Some(head) = frame.bytes_mut().first_chunk_mut::<{ MACS + TAG }>() else { return false };
        head.copy_within(TAG.., 0);
        head[MACS..].copy_from_slice(tag);
        true
    }
}

/// What is left of a burst from the switch without the tags. The buffers' ports are the interfaces, also for the rings to
/// other workers.
pub(super) struct Punted([Option<Mbuf>; BURST]);

impl Punted {
    /// Takes off the tags; what the switch did not send is dropped and counted.
    #[inline(always)]
    pub(super) fn new(burst: &mut Burst<BURST>, ports: &Ports, counters: &Counters) -> Self {
        let mut punted = [const { None }; BURST];
        for (place, mut frame) in punted.iter_mut().zip(burst.drain()) {
            match ports.untag(&mut frame, counters) {
                Ok(iface) => {
                    frame.set_port(iface.0.into());
                    *place = Some(frame);
                }
                Err(reason) => counters.count_drop(reason),
            }
        }
        Punted(punted)
    }

    /// Gives the frames of each interface to the forwarder, together and in their order.
    #[inline(always)]
    pub(super) fn receive(self, now: Time, forwarder: &mut Forwarder<Mbuf>, out: &mut impl Output<Mbuf>) {
        // Set from an interface's number above.
        receive_by_port(self.0, |port| IfaceId(port as u8), now, forwarder, out);
    }
}

#[cfg(test)]
mod tests {
    use fullnat::frame::HeapFrame;

    use super::*;

    fn counters() -> Counters {
        Counters::new(1, 1)
    }

    #[test]
    fn a_tag_goes_on_and_off() {
        let ports = Ports::new([7, 4094]).unwrap();
        let bytes: Vec<u8> = (0..60).collect();
        let mut frame = HeapFrame::new(&bytes);
        assert!(ports.tag(IfaceId(1), &mut frame));
        assert_eq!(frame.bytes()[..12], bytes[..12]);
        assert_eq!(frame.bytes()[12..16], [0x81, 0, 0x2f, 0xfe], "PCP 1, port 4094");
        assert_eq!(frame.bytes()[16..], bytes[12..]);
        // What is injected to a port looks like what is punted for PCP 1, TCP control.
        let counters = counters();
        assert_eq!(ports.untag(&mut frame, &counters), Ok(IfaceId(1)));
        assert_eq!(frame.bytes(), bytes);
        let traffic = &ports.traffic()[1];
        let counted = [&traffic.rx_packets, &traffic.rx_bytes, &traffic.tx_packets, &traffic.tx_bytes];
        assert_eq!(counted.map(Counter::get), [1, 60, 1, 60]);
        assert_eq!(ports.traffic()[0].rx_packets.get(), 0);
        assert_eq!(std::array::from_fn(|why| counters.punts(why as u8)), [0, 1, 0, 0, 0, 0, 0, 0]);
    }

    #[test]
    fn a_vlan_tag_of_the_networks_own_stays() {
        let ports = Ports::new([7]).unwrap();
        let mut bytes = vec![2; 64];
        bytes[12..20].copy_from_slice(&[0x81, 0, 0xe0, 7, 0x81, 0, 0, 100]);
        let mut frame = HeapFrame::new(&bytes);
        assert_eq!(ports.untag(&mut frame, &counters()), Ok(IfaceId(0)));
        assert_eq!(frame.bytes()[12..16], [0x81, 0, 0, 100]);
    }

    #[test]
    fn what_the_switch_did_not_send_is_dropped() {
        let ports = Ports::new([7]).unwrap();
        let counters = counters();
        let drop_reason = |bytes: &[u8]| {
            let mut frame = HeapFrame::new(bytes);
            let reason = ports.untag(&mut frame, &counters).unwrap_err();
            assert_eq!(frame.bytes(), bytes);
            reason
        };
        for short in 0..16 {
            assert_eq!(drop_reason(&[0x81; 16][..short]), DropReason::NotPunted);
        }
        assert_eq!(drop_reason(&[8; 60]), DropReason::NotPunted);
        let mut bytes = [0; 60];
        bytes[12..16].copy_from_slice(&[0x81, 0, 0, 8]);
        assert_eq!(drop_reason(&bytes), DropReason::UnknownPort);
        assert!((0..8).all(|why| counters.punts(why) == 0));
    }

    #[test]
    fn without_room_in_front_there_is_no_tag() {
        let ports = Ports::new([7]).unwrap();
        let mut frame = HeapFrame::new(&[0; 60]);
        assert!(frame.grow_front(HeapFrame::HEADROOM - 3));
        assert!(!ports.tag(IfaceId(0), &mut frame));
        assert!(!ports.tag(IfaceId(1), &mut HeapFrame::new(&[0; 60])), "no such interface");
    }

    #[test]
    fn ports_that_cannot_be_interfaces() {
        assert_eq!(Ports::new([1, 2, 1]).unwrap_err(), PortsError::Twice(1));
        assert_eq!(Ports::new([4096]).unwrap_err(), PortsError::Number(4096));
        assert!(Ports::new(0..255).is_ok());
        assert_eq!(Ports::new(0..256).unwrap_err(), PortsError::TooMany(256));
    }
}
