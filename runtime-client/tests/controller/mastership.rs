use runtime_client::fake::{FakeConfig, Lie};
use runtime_client::pipeline::{Entries, PassThrough, Pipeline};
use runtime_client::proto::p4::v1::PacketOut;
use runtime_client::write::{Outcome, WriteConfig};
use runtime_client::{
    Client, Code, Config, ElectionId, PacketError, PipelineError, Query, RequestError, Role, Standing,
};

use crate::common::{FLOW, Flow, client, config, in_time, insert, primary, settle_all, target, until};

#[tokio::test]
async fn backups_read_but_do_not_write() {
    let target = target(FakeConfig::default()).await;
    let (first, _events) = primary(&target).await;
    let (second, _events) = client(&target, 0);
    let backup = Standing::Backup { other: true, highest: Some(ElectionId(1)) };
    assert_eq!(in_time(second.wait_for(|standing| standing == backup)).await, backup);

    let flow = Flow::new(1, 2);
    assert_eq!(insert(&second, flow).await, Outcome::NotSent);
    assert_eq!(target.stats().writes, 0, "it never left");
    assert_eq!(insert(&first, flow).await, Outcome::Applied);
    assert_eq!(second.read(Query::table(FLOW)).await.unwrap().all().await.unwrap(), [flow.message()]);

    assert_eq!(second.send_packet(PacketOut::default()), Err(PacketError::NotPrimary(backup)));
    let other = Pipeline { p4info: runtime_client::fake::sample_p4info(8), device_config: pass(), cookie: 5 };
    let refused = second.bring_up(&other, Entries::Clear).await;
    assert_eq!(refused, Err(PipelineError::Set(RequestError::NotPrimary(backup))));
}

fn pass() -> PassThrough {
    PassThrough(Default::default())
}

#[tokio::test]
async fn a_higher_id_takes_over_and_the_loser_knows() {
    let target = target(FakeConfig::default()).await;
    let (first, _events) = primary(&target).await;
    let (second, _events) = client(&target, 2);
    in_time(second.wait_for(Standing::is_primary)).await;
    let lost = Standing::Backup { other: true, highest: Some(ElectionId(2)) };
    in_time(first.wait_for(|standing| standing == lost)).await;

    // And back, with a higher one.
    first.stand(Some(ElectionId(u128::MAX))).await;
    in_time(first.wait_for(Standing::is_primary)).await;
    in_time(second.wait_for(|standing| !standing.is_primary())).await;
    assert_eq!(insert(&first, Flow::new(1, 1)).await, Outcome::Applied);
}

#[tokio::test]
async fn nobody_is_primary_until_somebody_has_the_highest_id() {
    let target = target(FakeConfig::default()).await;
    let (backup, _events) = client(&target, 3);
    in_time(backup.wait_for(Standing::is_primary)).await;
    {
        let (higher, _events) = client(&target, 7);
        in_time(higher.wait_for(Standing::is_primary)).await;
    }
    let nobody = Standing::Backup { other: false, highest: Some(ElectionId(7)) };
    in_time(backup.wait_for(|standing| standing == nobody)).await;
    // The same as the highest is enough once its owner has gone.
    backup.stand(Some(ElectionId(7))).await;
    in_time(backup.wait_for(Standing::is_primary)).await;
    backup.stand(None).await;
    in_time(backup.wait_for(|standing| standing == nobody)).await;
}

#[tokio::test]
async fn an_id_in_use_does_not_get_in() {
    let target = target(FakeConfig::default()).await;
    let (first, _events) = primary(&target).await;
    let (second, _events) = client(&target, 1);
    until(|| second.last_failure().contains("in use")).await;
    assert!(first.standing().is_primary() && !second.standing().is_primary());
    drop(first);
    in_time(second.wait_for(Standing::is_primary)).await;
}

#[tokio::test]
async fn each_role_has_its_primary() {
    let target = target(FakeConfig::default()).await;
    let (all, _events) = primary(&target).await;
    let role = Role::named("flows");
    let (part, _events) = Client::start(Config { role, ..config(&target, 1) }).expect("a good config");
    in_time(part.wait_for(Standing::is_primary)).await;
    assert!(all.standing().is_primary());
    let flow = Flow::new(3, 3);
    for client in [&part, &all] {
        let outcome = insert(client, flow).await;
        // Both may write; the second finds what the first wrote.
        let there = outcome.refused_with();
        assert_eq!(there, (std::ptr::eq(client, &all)).then_some(Code::AlreadyExists), "{outcome:?}");
    }
}

#[tokio::test]
async fn a_full_restart_makes_the_old_id_good_again() {
    let target = target(FakeConfig::default()).await;
    let (client, _events) = client(&target, 4);
    in_time(client.wait_for(Standing::is_primary)).await;
    target.restart();
    in_time(client.wait_for(|standing| !standing.is_primary())).await;
    in_time(client.wait_for(Standing::is_primary)).await;
}

#[tokio::test]
async fn to_be_told_primary_with_anothers_id_is_no_primary() {
    let target = target(FakeConfig::default()).await;
    let (_first, _events) = primary(&target).await;
    target.chaos(|chaos| chaos.lie = Some(Lie::AllPrimary));
    let (second, _events) = client(&target, 0);
    let backup = Standing::Backup { other: true, highest: Some(ElectionId(1)) };
    in_time(second.wait_for(|standing| standing == backup)).await;
}

#[tokio::test]
async fn a_false_primary_is_refused_and_asks_again() {
    let target = target(FakeConfig::default()).await;
    let (_first, _events) = primary(&target).await;
    target.chaos(|chaos| chaos.lie = Some(Lie::AllPrimaryByOwnId));
    let (second, _events) = client(&target, 0);
    in_time(second.wait_for(Standing::is_primary)).await;
    target.chaos(|chaos| chaos.lie = None);
    assert_eq!(insert(&second, Flow::new(1, 1)).await.refused_with(), Some(Code::PermissionDenied));
    // The answer to its doubt is the truth.
    in_time(second.wait_for(|standing| !standing.is_primary())).await;
    assert_eq!(second.stats().doubts, 1);
    assert_eq!(target.entries(FLOW), []);
}

#[tokio::test]
async fn a_primary_told_otherwise_stops_until_it_hears_the_truth() {
    let target = target(FakeConfig::default()).await;
    let (client, _events) = primary(&target).await;
    target.chaos(|chaos| chaos.lie = Some(Lie::AllBackup));
    target.announce();
    in_time(client.wait_for(|standing| !standing.is_primary())).await;
    let mut writer = client.writer(WriteConfig::default());
    Flow::new(1, 1).insert(&mut writer);
    assert_eq!(settle_all(&mut writer).await[0].outcome, Outcome::NotSent);
    target.calm();
    target.announce();
    in_time(client.wait_for(Standing::is_primary)).await;
    Flow::new(1, 1).insert(&mut writer);
    assert_eq!(settle_all(&mut writer).await[0].outcome, Outcome::Applied);
}

#[tokio::test]
async fn a_true_primary_that_is_refused_keeps_asking() {
    let target = target(FakeConfig::default()).await;
    let (client, _events) = primary(&target).await;
    target.chaos(|chaos| chaos.lie = Some(Lie::RefusePrimary));
    let mut writer = client.writer(WriteConfig { batch: 1, in_flight: 4, ..WriteConfig::default() });
    (0..40).for_each(|key| Flow::new(key, 1).insert(&mut writer));
    let settled = settle_all(&mut writer).await;
    assert!(settled.iter().all(|end| end.outcome.refused_with() == Some(Code::PermissionDenied)));
    // Forty refusals are a few doubts, how many is a question of time; not forty.
    assert!((1..40).contains(&client.stats().doubts), "{:?}", client.stats());
    target.calm();
    Flow::new(1, 1).insert(&mut writer);
    assert_eq!(settle_all(&mut writer).await[0].outcome, Outcome::Applied);
}
