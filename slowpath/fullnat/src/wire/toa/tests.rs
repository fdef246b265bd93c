use super::*;
use crate::frame::HeapFrame;
use crate::wire::TcpFlags;
use crate::wire::strategies::{self, View};
use crate::wire::testing::{Build, flow as key, verify};
use proptest::prelude::*;

const NOPS: [u8; 2] = [NOP, NOP];
const TIMESTAMPS: [u8; 10] = [8, 10, 1, 2, 3, 4, 5, 6, 7, 8];

fn sack(blocks: u8) -> Vec<u8> {
    let mut option = vec![5, 2 + 8 * blocks];
    option.extend((0..8 * blocks).map(|n| n + 1));
    option
}

fn v4() -> Build<Ipv4Addr> {
    Build::new(key("192.0.2.1:1000", "198.51.100.1:80", Proto::Tcp)).payload(b"GET /")
}

fn v6() -> Build<Ipv6Addr> {
    Build::new(key("[2001:db8::1]:1000", "[2001:db8::2]:80", Proto::Tcp)).payload(b"GET /")
}

/// Inserts the option, and checks all that must hold whatever the segment was. The options afterwards.
fn inserted<A: View>(build: &Build<A>, client: (A, CPort), mtu: u16) -> Result<Vec<u8>, NoRoom> {
    let mut frame = build.frame();
    let before = A::view(frame.bytes());
    let mut flow = before;
    if let Err(why) = insert(&mut frame, &mut flow, client, mtu) {
        assert_eq!((&frame, flow), (&build.frame(), before), "a segment that has no room stays as it is");
        return Err(why);
    }
    assert_eq!(A::view(frame.bytes()), flow, "the view follows");
    assert_eq!((flow.key, flow.ttl, flow.flags), (before.key, before.ttl, before.flags));
    assert_eq!(tcp::segment(frame.bytes(), &flow), tcp::segment(&build.bytes(), &before));
    assert_eq!(verify(frame.bytes()), verify(&build.bytes()), "a checksum is off by what it was off by before");
    assert!(flow.ip_len() <= mtu);
    assert_eq!(frame.bytes()[usize::from(flow.payload)..], build.bytes()[usize::from(before.payload)..]);
    assert_eq!(decode(tcp::option_bytes(frame.bytes(), &flow)), Some(SocketAddr::new(client.0.into(), client.1.0)));
    Ok(tcp::option_bytes(frame.bytes(), &flow).to_vec())
}

#[test]
fn is_the_first_option_and_says_who() {
    let client = (Ipv4Addr::new(192, 0, 2, 1), CPort(0x1234));
    assert_eq!(inserted(&v4(), client, 1500), Ok(vec![254, 8, 0x12, 0x34, 192, 0, 2, 1]));
    let options = [&NOPS[..], &TIMESTAMPS].concat();
    let want = [&[254, 8, 0x12, 0x34, 192, 0, 2, 1], &options[..]].concat();
    assert_eq!(inserted(&v4().options(&options), client, 1500), Ok(want));

    let client: (Ipv6Addr, _) = ("2001:db8::1".parse().unwrap(), CPort(0x1234));
    let want = [&[254, 20, 0x12, 0x34], &client.0.octets()[..], &options].concat();
    assert_eq!(inserted(&v6().options(&options), client, 1500), Ok(want));
}

#[test]
fn padding_goes_before_the_option_does() {
    let client: (Ipv6Addr, _) = ("2001:db8::1".parse().unwrap(), CPort(80));
    let options = [&NOPS[..], &TIMESTAMPS, &NOPS, &sack(1)].concat();
    let got = inserted(&v6().options(&options), client, 1500).unwrap();
    assert_eq!(got.len(), 40);
    assert_eq!(got[20..], [&TIMESTAMPS[..], &sack(1)].concat());

    // Two SACK blocks beside timestamps fill 28 bytes without padding: 8 fit, 20 do not.
    let options = [&NOPS[..], &TIMESTAMPS, &NOPS, &sack(2)].concat();
    assert_eq!(inserted(&v6().options(&options), client, 1500), Err(NoRoom::Options));
    assert_eq!(inserted(&v4().options(&options), (Ipv4Addr::LOCALHOST, CPort(80)), 1500).unwrap().len(), 40);

    // 40 bytes of padding alone, and an odd option behind some.
    assert_eq!(inserted(&v4().options(&[NOP; 40]), (Ipv4Addr::LOCALHOST, CPort(80)), 1500).unwrap().len(), 40);
    let odd = [&[NOP; 33][..], &[30, 5, 1, 2, 3, 0, 0]].concat();
    let got = inserted(&v4().options(&odd), (Ipv4Addr::LOCALHOST, CPort(80)), 1500).unwrap();
    assert_eq!(got[8..13], [30, 5, 1, 2, 3]);
    assert!(got[13..].iter().all(|&byte| byte == NOP));
}

#[test]
fn a_malformed_list_that_leaves_no_room_is_left_alone() {
    let malformed = [&[NOP; 36][..], &[99, 77, 0, 0]].concat();
    assert_eq!(inserted(&v4().options(&malformed), (Ipv4Addr::LOCALHOST, CPort(80)), 1500), Err(NoRoom::Options));
}

#[test]
fn keeps_to_the_mtu_and_the_buffer() {
    let client = (Ipv4Addr::LOCALHOST, CPort(80));
    assert!(inserted(&v4(), client, 53).is_ok());
    assert_eq!(inserted(&v4(), client, 52), Err(NoRoom::Mtu));

    let mut frame = v4().frame();
    let mut flow = Ipv4Addr::view(frame.bytes());
    assert!(frame.grow_front(HeapFrame::HEADROOM));
    frame.shrink_front(HeapFrame::HEADROOM);
    let mut no_headroom = Tight(frame.bytes().to_vec());
    assert_eq!(insert(&mut no_headroom, &mut flow, client, 1500), Err(NoRoom::Headroom));
    assert_eq!(no_headroom.0, frame.bytes());
}

/// A buffer without headroom.
struct Tight(Vec<u8>);

impl Frame for Tight {
    fn bytes(&self) -> &[u8] {
        &self.0
    }

    fn bytes_mut(&mut self) -> &mut [u8] {
        &mut self.0
    }

    fn grow_front(&mut self, _: usize) -> bool {
        false
    }

    fn shrink_front(&mut self, n: usize) {
        self.0.drain(..n);
    }

    fn set_len(&mut self, len: usize) -> bool {
        self.0.resize(len, 0);
        true
    }
}

#[test]
fn udp_has_no_options() {
    let build = Build::new(key::<Ipv4Addr>("192.0.2.1:1000", "198.51.100.1:80", Proto::Udp)).payload(&[254; 40]);
    assert_eq!(inserted(&build, (Ipv4Addr::LOCALHOST, CPort(80)), 1500), Err(NoRoom::Options));
    let mut frame = build.bytes();
    assert!(!strip(&mut frame, &Ipv4Addr::view(&build.bytes())));
    assert_eq!(frame, build.bytes());
}

/// The options after stripping, and whether a forged one was found.
fn stripped(options: &[u8]) -> (Vec<u8>, bool) {
    let build = v4().flags(TcpFlags::SYN).options(options);
    let mut frame = build.bytes();
    let flow = Ipv4Addr::view(&frame);
    let found = strip(&mut frame, &flow);
    assert_eq!(verify(&frame), Ok(()));
    assert_eq!(Ipv4Addr::view(&frame), flow);
    (tcp::option_bytes(&frame, &flow).to_vec(), found)
}

#[test]
fn a_clients_own_option_becomes_padding() {
    let forged = [254, 8, 0, 80, 10, 0, 0, 1];
    assert_eq!(stripped(&forged), (vec![NOP; 8], true));
    // Twice, at odd offsets, of other lengths, among others.
    let list = [&[NOP][..], &forged, &[254, 2], &TIMESTAMPS, &[254, 3, 9], &[NOP; 4], &[2, 4, 5, 0xb4]].concat();
    let want = [&[NOP; 11][..], &TIMESTAMPS, &[NOP; 7], &[2, 4, 5, 0xb4]].concat();
    assert_eq!(stripped(&list), (want, true));
}

#[test]
fn nothing_hides_behind_the_end_of_the_list() {
    let forged = [254, 8, 0, 80, 10, 0, 0, 1];
    assert_eq!(stripped(&[&[EOL][..], &forged, &[0; 3]].concat()), (vec![EOL; 12], true));
    // An option that claims to pass the end, one that claims no length, and kind 254 itself cut.
    assert_eq!(stripped(&[&[9, 200][..], &forged, &[NOP; 2]].concat()), (vec![EOL; 12], true));
    assert_eq!(stripped(&[&[9, 1][..], &forged, &[NOP; 2]].concat()), (vec![EOL; 12], true));
    assert_eq!(stripped(&[NOP, NOP, NOP, 254]), (vec![NOP, NOP, NOP, EOL], true));
    assert_eq!(stripped(&[NOP, 254, 20, 254]), (vec![NOP, EOL, EOL, EOL], true));
    assert_eq!(stripped(&[NOP, 99, 98, 97]), (vec![NOP, EOL, EOL, EOL], false));
}

#[test]
fn other_options_stay() {
    let linux_syn = [2, 4, 5, 0xb4, 4, 2, 8, 10, 0, 0, 0, 1, 0, 0, 0, 0, NOP, 3, 3, 7];
    let padded = [&NOPS[..], &TIMESTAMPS].concat();
    // 254 as data of another option is no option.
    let data = [8, 10, 254, 8, 254, 8, 254, 8, 254, 8, 0, 0];
    for options in [&linux_syn[..], &padded, &data, &[]] {
        assert_eq!(stripped(options), (options.to_vec(), false));
    }
}

#[test]
fn decodes_only_what_is_whole() {
    assert_eq!(decode(&[254, 8, 0, 80, 10, 0, 0, 1]), Some("10.0.0.1:80".parse().unwrap()));
    assert_eq!(decode(&[NOP, 254, 4, 0, 80, 254, 8, 0, 80, 10, 0, 0, 1]), Some("10.0.0.1:80".parse().unwrap()));
    assert_eq!(decode(&[254, 9, 0, 80, 10, 0, 0, 1]), None);
    assert_eq!(decode(&[EOL, 254, 8, 0, 80, 10, 0, 0, 1]), None);
    assert_eq!(decode(&[]), None);
}

fn insert_any<A: View>(build: &Build<A>, client: (A, CPort), mtu: u16) {
    let frame = build.bytes();
    let flow = A::view(&frame);
    if let Ok(options) = inserted(build, client, mtu) {
        let old = tcp::option_bytes(&frame, &flow);
        let real = |bytes: &[u8]| Options::new(bytes).map(|o| bytes[o.at..o.at + o.len].to_vec()).collect::<Vec<_>>();
        assert_eq!(real(&options)[1..], real(old), "no option is lost and none changes");
    }
}

/// After stripping, nothing that any reader could take for the option is left.
fn strip_any_list<A: View>(build: &Build<A>) {
    let mut frame = build.bytes();
    let flow = A::view(&frame);
    let had_kind = tcp::option_bytes(&frame, &flow).contains(&KIND);
    let found = strip(&mut frame, &flow);
    assert!(had_kind || !found);
    assert_eq!(A::view(&frame), flow);
    assert_eq!(verify(&frame), verify(&build.bytes()));
    assert_eq!(tcp::segment(&frame, &flow), tcp::segment(&build.bytes(), &flow));
    let options = tcp::option_bytes(&frame, &flow);
    assert_eq!(decode(options), None);
    let mut walk = Options::new(options);
    assert!(walk.all(|option| option.kind != KIND));
    assert!(options[walk.ended_at()..].iter().all(|&byte| byte == EOL));
    let again = frame.clone();
    assert!(!strip(&mut frame, &flow), "stripping twice finds nothing more");
    assert_eq!(frame, again);
}

proptest! {
    #[test]
    fn inserts_into_anything_v4(
        build in strategies::packet::<Ipv4Addr>(), client in any::<Ipv4Addr>(), port: u16, mtu in prop_oneof![Just(1500u16), 40u16..160],
    ) {
        insert_any(&build, (client, CPort(port)), mtu);
    }

    #[test]
    fn inserts_into_anything_v6(
        build in strategies::packet::<Ipv6Addr>(), client in any::<Ipv6Addr>(), port: u16, mtu in prop_oneof![Just(1500u16), 60u16..180],
    ) {
        insert_any(&build, (client, CPort(port)), mtu);
    }

    #[test]
    fn strips_anything(v4 in strategies::packet::<Ipv4Addr>(), v6 in strategies::packet::<Ipv6Addr>()) {
        strip_any_list(&v4);
        strip_any_list(&v6);
    }

    /// What is inserted is what strip removes; only padding is left of it.
    #[test]
    fn insert_then_strip(build in strategies::packet::<Ipv4Addr>(), client in any::<Ipv4Addr>(), port: u16) {
        let mut frame = build.frame();
        let mut flow = Ipv4Addr::view(frame.bytes());
        strip(frame.bytes_mut(), &flow);
        let without: Vec<_> = Options::new(tcp::option_bytes(frame.bytes(), &flow)).map(|o| (o.kind, o.len)).collect();
        if insert(&mut frame, &mut flow, (client, CPort(port)), 1500).is_ok() {
            prop_assert!(strip(frame.bytes_mut(), &flow));
            let left: Vec<_> = Options::new(tcp::option_bytes(frame.bytes(), &flow)).map(|o| (o.kind, o.len)).collect();
            prop_assert_eq!(without, left);
            prop_assert_eq!(verify(frame.bytes()), verify(&build.bytes()));
        }
    }
}
