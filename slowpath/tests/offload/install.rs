use std::time::Duration;

use carom::offload::{Form, Forwarded, Policy, Tuning};
use carom_p4::{InboundV4Key, Key};
use fullnat::offload::{Counted, Threshold, Verdict};

use crate::rig::{FORMS, Rig, capacity, counted, flows, key, place, plan, settings, target, until};

#[tokio::test(flavor = "multi_thread")]
async fn a_session_goes_in_and_comes_back() {
    for form in FORMS {
        let target = target().await;
        let mut rig = Rig::ready(settings(target.address(), form)).await;
        assert_eq!(rig.gate.threshold::<std::net::Ipv4Addr>(), Threshold::Packets(0));
        rig.install(1, 7);
        assert_eq!(rig.verdict(1).await, Verdict::Installed(place(7)));
        assert_eq!(flows(&target).len(), 2);
        for entry in flows(&target) {
            let ages = entry.table_id != InboundV4Key::TABLE.id;
            assert_eq!(entry.idle_timeout_ns, if ages { 10_000_000_000 } else { 0 });
            assert!(target.hit(&entry, 5, 500));
        }
        let counted = counted(form, 5, 500);
        let asked = vec![key(1, 7), key(0, 7)];
        for _ in 0..2 {
            let news = rig.handle.counters_of(asked.clone()).await.expect("it runs");
            assert_eq!(
                news.into_iter().collect::<Vec<_>>(),
                [(key(1, 7), Forwarded { total: counted, untold: counted })],
                "and nothing is told by it"
            );
        }
        rig.remove(1, 7);
        assert_eq!(rig.verdict(1).await, Verdict::Removed(place(7), counted));
        assert_eq!(flows(&target).len(), 0);
        let status = rig.status().await;
        assert_eq!((status.totals.installed, status.totals.removed), (1, 1));
        assert_eq!((status.install_latency.count, status.remove_latency.count), (1, 1));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn both_directions_quiet_is_idle_and_one_is_not() {
    // By ids, the first entry counts and ages for both directions, so that it alone gives notice.
    for (form, quiet) in [(Form::Plain, 1), (Form::Ids, 0)] {
        let target = target().await;
        let mut rig = Rig::ready(settings(target.address(), form)).await;
        rig.install(0, 1);
        assert_eq!(rig.verdict(0).await, Verdict::Installed(place(1)));
        let entries = flows(&target);
        target.advance(Duration::from_secs(6));
        assert!(target.hit(&entries[0], 1, 60));
        // One is quiet for 10 s, the other for 4.
        target.advance(Duration::from_secs(4));
        rig.until_status(|status| status.totals.notices == quiet).await;
        tokio::time::sleep(Duration::from_millis(30)).await;
        assert_eq!(rig.poll(0), None);
        target.advance(Duration::from_secs(6));
        let Verdict::Idle(of, told) = rig.verdict(0).await else { panic!("not idle") };
        assert_eq!((of, told.packets[0] + told.packets[1]), (place(1), 1));
        rig.check(0, 1);
        assert_eq!(rig.verdict(0).await, Verdict::Idle(place(1), Counted::default()));
        for entry in &entries {
            assert!(target.hit(entry, 2, 120));
        }
        rig.check(0, 1);
        assert_eq!(rig.verdict(0).await, Verdict::Active(place(1), counted(form, 2, 120)));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn static_tables_follow_plan_and_neighbours() {
    for form in FORMS {
        use carom_p4::{LocalV4Key, NexthopKey, ServiceV4Key};
        let target = target().await;
        let rig = Rig::ready(settings(target.address(), form)).await;
        let count = |table| target.entries(table).len();
        until(|| count(NexthopKey::TABLE.id) == 2).await;
        // VIP, local address, the interface's own, and those of the two next hops, whose announcements are heard.
        assert_eq!((count(ServiceV4Key::TABLE.id), count(LocalV4Key::TABLE.id)), (1, 5));
        // Another VIP: the former one's sessions go on.
        rig.handle.set_plan(plan(2, "10.0.0.81".parse().expect("an address"))).await.expect("it runs");
        until(|| count(ServiceV4Key::TABLE.id) == 2 && count(LocalV4Key::TABLE.id) == 6).await;
        rig.neighbors.make_dynamic(rig.router);
        tokio::time::sleep(Duration::from_millis(30)).await;
        assert_eq!(count(NexthopKey::TABLE.id), 2, "its MAC address is not known any more, but it was");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn it_ends_when_it_is_told_to() {
    for form in FORMS {
        let target = target().await;
        let rig = Rig::ready(settings(target.address(), form)).await;
        rig.handle.stop().await;
        until(|| rig.gate.threshold::<std::net::Ipv4Addr>() == Threshold::Never).await;
        assert!(rig.handle.status().await.is_err());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn policy_and_sweep_change_while_it_runs() {
    for form in FORMS {
        let target = target().await;
        let mut rig = Rig::ready(settings(target.address(), form)).await;
        rig.install(0, 1);
        assert_eq!(rig.verdict(0).await, Verdict::Installed(place(1)));
        let sweeps = rig.status().await.totals.sweeps;
        let (retry, sweep) = (Duration::from_millis(50), Duration::from_millis(20));
        for (policy, threshold) in [
            (Policy::Never, Threshold::Never),
            (Policy::Bytes(7), Threshold::Bytes(7)),
            (Policy::PacketsPerSecond(9), Threshold::PacketsPerSecond(9)),
        ] {
            rig.handle.tune(Tuning { policy, retry, sweep, punt_rate: None }).await.expect("it runs");
            until(|| rig.gate.threshold::<std::net::Ipv4Addr>() == threshold).await;
        }
        // Five minutes were set at the start.
        rig.until_status(|status| status.totals.sweeps > sweeps + 1).await;
        assert_eq!(flows(&target).len(), 2, "what is installed stays");
        target.chaos(|chaos| chaos.capacity = capacity(form, 1));
        rig.install(0, 2);
        assert_eq!(rig.verdict(0).await, Verdict::Refused(place(2), 50));
    }
}
