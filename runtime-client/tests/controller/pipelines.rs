use runtime_client::fake::{FakeConfig, Lie, sample_p4info};
use runtime_client::pipeline::{Bmv2Json, Brought, Entries, PackError, PassThrough, Pipeline, PnaSpec};
use runtime_client::proto::p4::v1::GetForwardingPipelineConfigRequest;
use runtime_client::proto::p4::v1::get_forwarding_pipeline_config_request::ResponseType;
use runtime_client::write::WriteConfig;
use runtime_client::{Code, PipelineError, RequestError};

use crate::common::{FLOW, Flow, flows, primary, settle_all, target};

const JSON: &[u8] = br#"{"parsers": [], "pipelines": [], "deparsers": []}"#;

fn pipeline(cookie: u64) -> Pipeline<Bmv2Json> {
    Pipeline { p4info: sample_p4info(64), device_config: Bmv2Json(JSON.into()), cookie }
}

#[tokio::test]
async fn a_target_without_program_gets_one_and_keeps_it() {
    let target = target(FakeConfig { p4info: None, ..FakeConfig::default() }).await;
    let (client, _events) = primary(&target).await;
    assert_eq!((client.cookie().await, client.p4info().await), (Ok(None), Ok(None)));
    assert_eq!(client.bring_up(&pipeline(7), Entries::Clear).await, Ok(Brought::Committed));
    assert_eq!((client.cookie().await, client.p4info().await), (Ok(Some(7)), Ok(Some(sample_p4info(64)))));
    let request = GetForwardingPipelineConfigRequest { device_id: 1, response_type: ResponseType::All as i32 };
    let all = client.service().unwrap().get_forwarding_pipeline_config(request).await.unwrap().into_inner();
    assert_eq!(all.config.unwrap().p4_device_config, JSON);

    let mut writer = client.writer(WriteConfig::default());
    Flow::new(1, 1).insert(&mut writer);
    settle_all(&mut writer).await;
    for entries in [Entries::Clear, Entries::KeepIfPossible, Entries::Keep] {
        assert_eq!(client.bring_up(&pipeline(7), entries).await, Ok(Brought::Kept));
    }
    assert_eq!(target.stats().pipelines, 1);
    assert_eq!(flows(&target.entries(FLOW)), [(1, 1)]);
}

/// With no program there is nothing to keep, whatever was asked for.
#[tokio::test]
async fn a_first_program_is_committed() {
    for entries in [Entries::Clear, Entries::KeepIfPossible, Entries::Keep] {
        let target = target(FakeConfig { p4info: None, ..FakeConfig::default() }).await;
        let (client, _events) = primary(&target).await;
        assert_eq!(client.bring_up(&pipeline(7), entries).await, Ok(Brought::Committed));
    }
}

#[tokio::test]
async fn a_running_program_is_kept_by_backups_too() {
    let target = target(FakeConfig { cookie: Some(7), ..FakeConfig::default() }).await;
    let (_first, _events) = primary(&target).await;
    let (backup, _events) = crate::common::client(&target, 0);
    crate::common::in_time(backup.wait_for(|standing| standing.is_connected())).await;
    assert_eq!(backup.bring_up(&pipeline(7), Entries::Clear).await, Ok(Brought::Kept));
}

/// A cookie of 0 is a cookie, and none is none.
#[tokio::test]
async fn no_cookie_is_not_cookie_zero() {
    let target = target(FakeConfig::default()).await;
    let (client, _events) = primary(&target).await;
    assert_eq!(client.cookie().await, Ok(None));
    assert_eq!(client.bring_up(&pipeline(0), Entries::Clear).await, Ok(Brought::Committed));
    assert_eq!(client.bring_up(&pipeline(0), Entries::Clear).await, Ok(Brought::Kept));
}

#[tokio::test]
async fn another_program_can_keep_the_entries() {
    for (reconciles, entries, brought, there) in [
        (true, Entries::Keep, Brought::Reconciled, 1),
        (true, Entries::KeepIfPossible, Brought::Reconciled, 1),
        (true, Entries::Clear, Brought::Committed, 0),
        (false, Entries::KeepIfPossible, Brought::Committed, 0),
    ] {
        let target = target(FakeConfig { reconciles, cookie: Some(1), ..FakeConfig::default() }).await;
        let (client, _events) = primary(&target).await;
        let mut writer = client.writer(WriteConfig::default());
        Flow::new(1, 1).insert(&mut writer);
        settle_all(&mut writer).await;
        assert_eq!(client.bring_up(&pipeline(2), entries).await, Ok(brought), "{entries:?}");
        assert_eq!(target.entries(FLOW).len(), there, "{reconciles} {entries:?}");
    }
}

#[tokio::test]
async fn entries_that_do_not_fit_the_new_program_are_not_dropped_unasked() {
    let target = target(FakeConfig { cookie: Some(1), ..FakeConfig::default() }).await;
    let (client, _events) = primary(&target).await;
    let mut writer = client.writer(WriteConfig::default());
    (0..100).for_each(|key| Flow::new(key, 1).insert(&mut writer));
    settle_all(&mut writer).await;
    // 100 entries, and the new program has room for 64.
    let code = match client.bring_up(&pipeline(2), Entries::Keep).await {
        Err(PipelineError::Set(RequestError::Refused(refusal))) => refusal.code,
        other => panic!("{other:?}"),
    };
    assert_eq!((code, target.entries(FLOW).len(), client.cookie().await), (Code::InvalidArgument, 100, Ok(Some(1))));
    assert_eq!(client.bring_up(&pipeline(2), Entries::KeepIfPossible).await, Ok(Brought::Committed));
    assert_eq!(target.entries(FLOW), []);
}

#[tokio::test]
async fn programs_of_another_kind_never_leave() {
    let target = target(FakeConfig { p4info: None, ..FakeConfig::default() }).await;
    let (client, _events) = primary(&target).await;
    let wrong = Pipeline { device_config: Bmv2Json(b"apply {}"[..].into()), ..pipeline(1) };
    let result = client.bring_up(&wrong, Entries::Clear).await;
    assert!(matches!(result, Err(PipelineError::Pack(PackError::Kind { expected: "BMv2 JSON", .. }))), "{result:?}");
    assert_eq!(target.stats().pipelines, 0);
    let spec = PnaSpec(b"apply {\n}\n"[..].into());
    let spec = Pipeline { p4info: sample_p4info(8), device_config: spec, cookie: 2 };
    assert_eq!(client.bring_up(&spec, Entries::Clear).await, Ok(Brought::Committed));
    let any = Pipeline { p4info: sample_p4info(8), device_config: PassThrough(Default::default()), cookie: 3 };
    assert_eq!(client.bring_up(&any, Entries::Clear).await, Ok(Brought::Committed));
}

#[tokio::test]
async fn a_refused_pipeline_raises_doubt() {
    let target = target(FakeConfig::default()).await;
    let (client, _events) = primary(&target).await;
    target.chaos(|chaos| chaos.lie = Some(Lie::RefusePrimary));
    let refused = client.bring_up(&pipeline(9), Entries::Clear).await;
    let Err(PipelineError::Set(RequestError::Refused(refusal))) = refused else { panic!("{refused:?}") };
    assert_eq!(refusal.code, Code::PermissionDenied);
    crate::common::until(|| client.stats().doubts == 1).await;
}
