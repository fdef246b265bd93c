//! Sessions that the target has from an earlier life of the manager.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::sync::Arc;

use carom::offload::{Form, Settings};
use carom_p4::{Key, NexthopKey};
use fullnat::flow::Direction;
use fullnat::hash::FlowHasher;
use fullnat::id::NexthopId;
use fullnat::offload::{Adoption, AnyEnds, Counted, Request, Threshold, Verdict};
use fullnat::ports::LportOwners;
use fullnat::spread::{Placement, Spread};
use runtime_client::fake::{FakeTarget, Nobody};
use runtime_client::write::{Update, WriteConfig};
use runtime_client::{Address, Client, Config, ElectionId, Standing};

use crate::rig::{FORMS, Rig, counted, flows, place, settings, target, until};

const SESSIONS: u32 = 10;

/// Sessions of worker 0 that are installed, and a manager that says no word when it ends.
async fn earlier_life(target: &FakeTarget, form: Form) {
    let mut rig = Rig::ready(settings(target.address(), form)).await;
    (0..SESSIONS).for_each(|n| rig.install(0, n));
    for _ in 0..SESSIONS {
        assert!(matches!(rig.verdict(0).await, Verdict::Installed(_)));
    }
    for entry in flows(target) {
        assert!(target.hit(&entry, 3, 300));
    }
    rig.handle.stop().await;
}

/// Deletes an entry behind everybody's back.
async fn delete_one(target: &FakeTarget) {
    let config = Config { election_id: Some(ElectionId(5)), ..Config::new(target.address(), 1) };
    let (client, _events) = Client::start(config).expect("a good config");
    client.wait_for(Standing::is_primary).await;
    let mut writer = client.writer(WriteConfig::default());
    let mut entry = flows(target).remove(0);
    entry.action = None;
    let entity = runtime_client::proto::p4::v1::Entity {
        entity: Some(runtime_client::proto::p4::v1::entity::Entity::TableEntry(entry)),
    };
    let kind = runtime_client::write::Kind::Delete;
    let update = Update { kind, entity: runtime_client::write::Entity::Message(&entity) };
    writer.submit(1, &[update]).expect("room");
    let mut settled = Vec::new();
    while writer.pending() > 0 {
        writer.settle(&mut settled).await;
    }
    until(|| flows(target).len() == 2 * SESSIONS as usize - 1).await;
}

fn adopting(target: &FakeTarget, form: Form) -> Settings {
    let placement = Some(Placement::new(Spread::Sticky(LportOwners::new(1)), Arc::new(FlowHasher::new(1, 2))));
    Settings { placement, election_id: 9, ..settings(target.address(), form) }
}

async fn offers(rig: &mut Rig, count: usize, form: Form) -> BTreeMap<u32, Adoption> {
    let mut offers = BTreeMap::new();
    for _ in 0..count {
        let Verdict::Adopt(adoption) = rig.verdict(0).await else { panic!("something else") };
        let AnyEnds::V4(ends) = adoption.ends else { panic!("not IPv4") };
        let n = u32::from(ends.lport.0 & 0x7fff);
        let AnyEnds::V4(expected) = rig.ends(n) else { panic!("not IPv4") };
        for direction in [Direction::Inbound, Direction::Outbound] {
            assert_eq!(ends.key(direction), expected.key(direction));
        }
        assert_eq!(adoption.packets, counted(form, 3, 300).packets);
        assert!(offers.insert(n, adoption).is_none());
    }
    offers
}

fn adopted(rig: &Rig, ticket: u32, n: u32, stays: bool) -> Request {
    Request::Adopted { ticket, place: place(n), nexthops: [rig.server, rig.router], idle_ms: 10_000, stays }
}

#[tokio::test(flavor = "multi_thread")]
async fn sessions_of_an_earlier_life_are_offered_and_taken_over() {
    for form in FORMS {
        let target = target().await;
        earlier_life(&target, form).await;
        delete_one(&target).await;
        // In this life the next hops have other numbers.
        let mut rig = Rig::later(adopting(&target, form));
        assert!(rig.gate.is_held());
        let offers = offers(&mut rig, SESSIONS as usize - 1, form).await;
        assert_eq!((rig.poll(0), rig.poll(1)), (None, None), "the tenth is half a session");
        assert!(rig.gate.is_held());
        let mut tickets = offers.iter().map(|(n, adoption)| (*n, adoption.ticket));
        let (declined, unfit) = (tickets.next().expect("a ticket"), tickets.next().expect("a ticket"));
        rig.tell(0, Request::Declined { ticket: declined.1 });
        rig.tell(0, adopted(&rig, unfit.1, unfit.0, false));
        let taken: Vec<(u32, u32)> = tickets.collect();
        for (n, ticket) in &taken {
            rig.tell(0, adopted(&rig, *ticket, *n, true));
        }
        assert_eq!(rig.verdict(0).await, Verdict::Removed(place(unfit.0), Counted::default()));
        rig.until_open().await;
        until(|| !rig.gate.is_held()).await;
        assert_eq!(flows(&target).len(), 2 * taken.len());
        let status = rig.status().await;
        assert_eq!(
            (status.totals.adopted, status.totals.orphans, status.sessions.offloaded),
            (8, 3, taken.len() as u64)
        );
        // The two next hops, under their names, and the one that this life has besides.
        until(|| target.entries(NexthopKey::TABLE.id).len() == 3).await;

        // From here on they are like any others: what is counted is what came since.
        let n = taken[0].0;
        for entry in flows(&target) {
            assert!(target.hit(&entry, 2, 120));
        }
        rig.check(0, n);
        assert_eq!(rig.verdict(0).await, Verdict::Active(place(n), counted(form, 2, 120)));
        rig.remove(0, n);
        assert_eq!(rig.verdict(0).await, Verdict::Removed(place(n), Counted::default()));
        rig.install(0, 100);
        assert_eq!(rig.verdict(0).await, Verdict::Installed(place(100)));
        assert_eq!(flows(&target).len(), 2 * taken.len());
    }
}

/// The next hop is not what the entries lead to: the session goes on, its entries do not.
#[tokio::test(flavor = "multi_thread")]
async fn entries_whose_next_hops_are_others_do_not_stay() {
    for form in FORMS {
        let target = target().await;
        earlier_life(&target, form).await;
        let mut rig = Rig::later(adopting(&target, form));
        let offers = offers(&mut rig, SESSIONS as usize, form).await;
        for (n, adoption) in &offers {
            let Request::Adopted { ticket, place, idle_ms, stays, .. } = adopted(&rig, adoption.ticket, *n, true)
            else {
                panic!("not adopted")
            };
            // For the first one the server is behind the router, and so for none of the others.
            let nexthops = if *n == 0 { [rig.router, NexthopId(77)] } else { [rig.server, rig.router] };
            rig.tell(0, Request::Adopted { ticket, place, nexthops, idle_ms, stays });
        }
        let mut removed = Vec::new();
        for _ in 0..SESSIONS {
            let Verdict::Removed(of, counted) = rig.verdict(0).await else { panic!("not removed") };
            assert_eq!(counted, Counted::default());
            removed.push(of);
        }
        rig.until_open().await;
        assert_eq!((flows(&target).len(), removed.len()), (0, SESSIONS as usize));
        rig.install(0, 3);
        assert_eq!(rig.verdict(0).await, Verdict::Installed(place(3)));
    }
}

/// The connection breaks while workers think: nothing is offered twice, and late answers count.
#[tokio::test(flavor = "multi_thread")]
async fn a_target_that_goes_meanwhile_changes_nothing() {
    for form in FORMS {
        let target = target().await;
        earlier_life(&target, form).await;
        let mut rig = Rig::later(adopting(&target, form));
        let offers = offers(&mut rig, SESSIONS as usize, form).await;
        rig.until_status(|status| status.totals.sweeps == 1).await;
        target.disconnect();
        // That it is not connected may be over before it is seen; it sweeps again after it.
        rig.until_status(|status| status.connected && status.totals.sweeps > 1).await;
        assert_eq!(rig.poll(0), None);
        for (n, adoption) in &offers {
            rig.tell(0, adopted(&rig, adoption.ticket, *n, true));
        }
        rig.until_open().await;
        let status = rig.status().await;
        assert_eq!((status.totals.adopted, status.totals.orphans, status.sessions.offloaded), (10, 0, 10));
        assert_eq!(flows(&target).len(), 20);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_target_that_cannot_be_reached_holds_sessions_back_for_a_while_only() {
    let nobody = Nobody::new().expect("a free port on loopback");
    let address = Address::tcp(nobody.address().expect("it is bound"));
    let placement = Some(Placement::new(Spread::Sticky(LportOwners::new(1)), Arc::new(FlowHasher::new(1, 2))));
    let rig = Rig::start(Settings { placement, ..settings(address, Form::Plain) });
    assert!(rig.gate.is_held());
    until(|| !rig.gate.is_held()).await;
    assert_eq!(rig.gate.threshold::<Ipv4Addr>(), Threshold::Never);
}
