//! Targets that are full, restarted, taken over, or that come with entries of an earlier life.

use std::time::Duration;

use carom::offload::{Form, Settings};
use carom_p4::{ConnectionV4EvenKey, ConnectionV4OddKey, InboundV4Key, Key, NexthopKey, SlowpathKey};
use fullnat::offload::{Counted, Threshold, Verdict};
use runtime_client::fake::Lie;
use runtime_client::{Client, Config, ElectionId, Standing};

use crate::rig::{FORMS, Rig, capacity, flows, place, settings, target, until};

/// Installs so many sessions of worker 0, and says which are in.
async fn fill(rig: &mut Rig, sessions: std::ops::Range<u32>) -> Vec<u32> {
    sessions.clone().for_each(|n| rig.install(0, n));
    let mut installed = Vec::new();
    for _ in sessions.clone() {
        match rig.verdict(0).await {
            Verdict::Installed(of) => installed.extend(sessions.clone().find(|n| place(*n) == of)),
            Verdict::Refused(..) => {}
            other => panic!("{other:?}"),
        }
    }
    installed
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_table_closes_the_gate_until_there_is_room() {
    for form in FORMS {
        let target = target().await;
        let mut rig = Rig::ready(settings(target.address(), form)).await;
        target.chaos(|chaos| chaos.capacity = capacity(form, 16));
        let installed = fill(&mut rig, 0..50).await;
        assert!(!installed.is_empty() && installed.len() <= 16, "{installed:?}");
        assert_eq!(flows(&target).len(), 2 * installed.len());
        until(|| rig.gate.threshold::<std::net::Ipv4Addr>() == Threshold::Never).await;
        let status = rig.status().await;
        assert!(status.totals.refused_full > 0 && status.failures.contains_key("ResourceExhausted"), "{status:?}");
        for n in &installed[..4] {
            rig.remove(0, *n);
            assert_eq!(rig.verdict(0).await, Verdict::Removed(place(*n), Counted::default()));
        }
        rig.until_open().await;
        assert_eq!(fill(&mut rig, 100..101).await, [100]);
    }
}

/// A target that keeps 6 bits of a hash of each inbound key: of sessions with the same one the first is in.
#[tokio::test(flavor = "multi_thread")]
async fn a_session_with_the_hash_of_another_is_not_offloaded_and_harms_nobody() {
    let target = target().await;
    let mut rig = Rig::ready(settings(target.address(), Form::Ids)).await;
    target.chaos(|chaos| chaos.hashed = Some((InboundV4Key::TABLE.id, 6)));
    let installed = fill(&mut rig, 0..100).await;
    assert!((30..=64).contains(&installed.len()), "{installed:?}");
    let status = rig.status().await;
    let refused = 100 - installed.len() as u64;
    assert_eq!((status.totals.refused_hash, status.totals.refused), (refused, refused), "{status:?}");
    assert_eq!((status.totals.already_there, status.sessions.offloaded), (0, installed.len() as u64));
    // Each of those that are in has both of its own entries, and nobody else has one.
    let [inbound, even, odd] = [InboundV4Key::TABLE, ConnectionV4EvenKey::TABLE, ConnectionV4OddKey::TABLE]
        .map(|table| target.entries(table.id).len());
    assert_eq!([inbound, even + odd], [installed.len(); 2]);
    for n in &installed {
        rig.check(0, *n);
        assert!(matches!(rig.verdict(0).await, Verdict::Idle(of, _) if of == place(*n)));
    }
    assert_eq!(rig.status().await.totals.lost, 0);
    // Its hash is free when the other one has ended.
    for n in &installed {
        rig.remove(0, *n);
        assert!(matches!(rig.verdict(0).await, Verdict::Removed(..)));
    }
    let refused = (0..100).find(|n| !installed.contains(n)).expect("one that was refused");
    assert_eq!(fill(&mut rig, refused..refused + 1).await, [refused]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restarted_target_gets_its_tables_back_and_workers_their_sessions() {
    for form in FORMS {
        let target = target().await;
        let mut rig = Rig::ready(settings(target.address(), form)).await;
        let installed = fill(&mut rig, 0..20).await;
        assert_eq!(installed.len(), 20);
        target.restart();
        let mut back = Vec::new();
        for _ in 0..20 {
            match rig.verdict(0).await {
                Verdict::Removed(of, _) => back.push(of),
                other => panic!("{other:?}"),
            }
        }
        back.sort_unstable();
        assert_eq!(back, installed.iter().map(|n| place(*n)).collect::<Vec<_>>());
        rig.until_open().await;
        until(|| target.entries(SlowpathKey::TABLE.id).len() == 2 && target.entries(NexthopKey::TABLE.id).len() == 2)
            .await;
        assert_eq!(fill(&mut rig, 0..20).await.len(), 20);
        assert_eq!(flows(&target).len(), 40);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn entries_of_an_earlier_life_are_gone_before_the_first_install() {
    for form in FORMS {
        let target = target().await;
        let mut first = Rig::ready(settings(target.address(), form)).await;
        assert_eq!(fill(&mut first, 0..20).await.len(), 20);
        first.handle.stop().await;
        drop(first);
        let mut second = Rig::ready(settings(target.address(), form)).await;
        assert_eq!(flows(&target).len(), 0);
        let status = second.status().await;
        assert_eq!((status.pipeline.as_deref(), status.totals.orphans), (Some("kept"), 40));
        assert_eq!(fill(&mut second, 0..20).await.len(), 20);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cut_connection_costs_no_session() {
    for form in FORMS {
        let target = target().await;
        let mut rig = Rig::ready(settings(target.address(), form)).await;
        assert_eq!(fill(&mut rig, 0..20).await.len(), 20);
        let sweeps = rig.status().await.totals.sweeps;
        target.disconnect();
        rig.until_status(|status| status.ready && status.totals.sweeps > sweeps).await;
        assert_eq!((rig.poll(0), flows(&target).len()), (None, 40));
        assert_eq!(rig.status().await.pipeline.as_deref(), Some("kept"));
        rig.remove(0, 3);
        assert_eq!(rig.verdict(0).await, Verdict::Removed(place(3), Counted::default()));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backup_installs_nothing_and_removes_when_it_is_primary_again() {
    for form in FORMS {
        let target = target().await;
        let mut rig = Rig::ready(Settings { election_id: 5, ..settings(target.address(), form) }).await;
        assert_eq!(fill(&mut rig, 0..2).await.len(), 2);
        let config = Config { election_id: Some(ElectionId(6)), ..Config::new(target.address(), 1) };
        let (other, _events) = Client::start(config).expect("a good config");
        other.wait_for(Standing::is_primary).await;
        until(|| rig.gate.threshold::<std::net::Ipv4Addr>() == Threshold::Never).await;
        rig.install(0, 9);
        assert_eq!(rig.verdict(0).await, Verdict::Refused(place(9), 200));
        rig.remove(0, 0);
        tokio::time::sleep(Duration::from_millis(100)).await;
        assert_eq!((rig.poll(0), flows(&target).len()), (None, 4));
        assert_eq!(rig.status().await.standing, "backup");
        // The target forgets who was primary, and everything else.
        drop(other);
        target.restart();
        let mut back = [rig.verdict(0).await, rig.verdict(0).await];
        back.sort_unstable_by_key(|verdict| format!("{verdict:?}"));
        assert_eq!(back, [0, 1].map(|n| Verdict::Removed(place(n), Counted::default())));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_target_that_lies_about_the_primary_refuses_and_leaks_nothing() {
    for form in FORMS {
        let target = target().await;
        let mut rig = Rig::ready(settings(target.address(), form)).await;
        target.chaos(|chaos| chaos.lie = Some(Lie::RefusePrimary));
        assert_eq!(fill(&mut rig, 0..20).await, [0u32; 0]);
        assert_eq!(flows(&target).len(), 0);
        target.calm();
        // The gate may be open still, because the manager has yet to hear of what it was refused.
        let mut first = 20;
        loop {
            rig.until_open().await;
            if fill(&mut rig, first..first + 20).await.len() == 20 {
                break;
            }
            first += 20;
            assert!(first < 2_000, "{:#?}", rig.status().await);
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn lost_and_repeated_notices_change_nothing() {
    // By ids one entry of the two ages.
    for (form, notices) in [(Form::Plain, 4), (Form::Ids, 2)] {
        let target = target().await;
        let mut rig = Rig::ready(settings(target.address(), form)).await;
        assert_eq!(fill(&mut rig, 0..1).await.len(), 1);
        target.chaos(|chaos| chaos.lose_notices = 1.0);
        target.advance(Duration::from_secs(11));
        rig.check(0, 0);
        assert_eq!(rig.verdict(0).await, Verdict::Idle(place(0), Counted::default()));
        target.chaos(|chaos| (chaos.lose_notices, chaos.repeat_notices) = (0.0, 1.0));
        target.advance(Duration::from_secs(11));
        assert_eq!(rig.verdict(0).await, Verdict::Idle(place(0), Counted::default()));
        let status = rig.until_status(|status| status.totals.notices == notices).await;
        assert_eq!(status.totals.idle, 2);
    }
}
