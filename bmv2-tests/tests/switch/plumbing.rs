//! The switch and its cables without Carom: what fails here is the harness's fault or the P4 program's.

use std::time::Duration;

use bmv2_tests::balancer::wait;
use bmv2_tests::raw::RawSocket;
use bmv2_tests::switch::{Punted, SLOWPATH_DEVICE, SLOWPATH_PORT, capture_injects, capture_punts, port_of, primary};
use bmv2_tests::topology::{Arms, BALANCER_MACS, CLIENT, Load, Topology};
use carom_p4::{
    ID_PUNTS, InjectAction, InjectKey, LocalV4Action, LocalV4Key, PortAction, PortKey, Punt, SlowpathAction,
    SlowpathKey,
};

/// A client asks who has the VIP; the request comes out of the switch's other end with its tag, and an answer that is put in
/// there, tagged too, reaches the client.
#[test]
fn arp_is_punted_and_the_answer_injected() {
    if crate::skipped() {
        return;
    }
    let topology = Topology::with_switch(Arms::Two, Load::Light, crate::target()).unwrap();
    let (vip, ns, worker) = (topology.vip().v4, &topology.balancer, 0);
    let control = primary(ns, crate::target()).unwrap();
    control.bring_up(None, 1).unwrap();
    control.insert(SlowpathKey { worker }, SlowpathAction::ToPort { port: SLOWPATH_PORT.into() }).unwrap();
    control.insert(InjectKey { port: SLOWPATH_PORT.into() }, InjectAction::Honour {}).unwrap();
    control.insert(PortKey { vid: port_of(0) }, PortAction::OutOf { port: port_of(0).into() }).unwrap();
    control.insert(LocalV4Key { dst: vip.to_bits() }, LocalV4Action::PuntAll { worker }).unwrap();
    assert_eq!(control.rows::<PortKey>().unwrap().len(), 1);
    assert_eq!(control.flows().unwrap(), []);

    let (punts, injects) = (capture_punts(ns).unwrap(), capture_injects(ns).unwrap());
    let slow_path = RawSocket::open(ns, SLOWPATH_DEVICE).unwrap();
    topology.client.run(|| std::net::UdpSocket::bind("0.0.0.0:0").unwrap().send_to(b"?", (vip, 9)).unwrap());
    let asks = |frame: &[u8]| frame[12..14] == [0x08, 0x06] && frame[38..42] == vip.octets();
    let punted = || -> Vec<_> {
        let records = punts.records();
        records.iter().filter_map(|it| Punted::parse(&it.frame)).filter(|it| asks(&it.frame)).collect()
    };
    assert!(wait(Duration::from_secs(20), || !punted().is_empty()), "{:?}", punts.records());
    let request = punted().remove(0);
    assert_eq!((request.why, request.port), (Punt::Neighbor as u8, port_of(0)));
    assert_eq!(request.frame[28..32], CLIENT.v4.octets());

    let mac = BALANCER_MACS[0].split(':').map(|byte| u8::from_str_radix(byte, 16).unwrap()).collect::<Vec<_>>();
    let asker = &request.frame[22..32];
    let tag = [0x81, 0x00, 0x20, port_of(0) as u8];
    let head = [0x08, 0x06, 0, 1, 8, 0, 6, 4, 0, 2];
    let reply = [&asker[..6], &mac, &tag, &head, &mac, &vip.octets(), asker].concat();
    slow_path.send(&reply).unwrap();
    let known = || topology.client.ip(&format!("neigh show {vip}")).unwrap().contains(BALANCER_MACS[0]);
    assert!(wait(Duration::from_secs(20), known), "injected: {:?}", injects.records());
    assert_eq!(injects.records().len(), 1);
    let counted = control.counter(ID_PUNTS).unwrap();
    assert_eq!(counted.values().sum::<u64>(), punts.records().len() as u64, "{counted:?}");
}
