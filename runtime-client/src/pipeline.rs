//! Which program the target runs: compared by cookie first, so that one that runs already is kept with its entries.

mod tofino;

use prost::bytes::Bytes;

pub use tofino::{Tofino, TofinoForm};

use crate::Code;
use crate::client::Client;
use crate::error::{PipelineError, RequestError};
use crate::proto::p4::config::v1::P4Info;
use crate::proto::p4::v1::forwarding_pipeline_config::Cookie;
use crate::proto::p4::v1::get_forwarding_pipeline_config_request::ResponseType;
use crate::proto::p4::v1::p4_runtime_client::P4RuntimeClient;
use crate::proto::p4::v1::set_forwarding_pipeline_config_request::Action;
use crate::proto::p4::v1::{
    ForwardingPipelineConfig, GetForwardingPipelineConfigRequest, SetForwardingPipelineConfigRequest,
};

/// What is wrong with a compiled program.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PackError {
    /// It is empty.
    #[error("the compiled program is empty")]
    Empty,
    /// It is not of the kind the target takes.
    #[error("not {expected}: {problem}")]
    Kind {
        /// What the target takes.
        expected: &'static str,
        /// How this one differs.
        problem: String,
    },
}

/// How one kind of target wants the compiled program in `p4_device_config`.
pub trait DeviceConfig {
    /// Makes the bytes the target takes, or says why the program is none of its kind.
    fn pack(&self) -> Result<Bytes, PackError>;
}

/// Bytes as the target takes them.
#[derive(Clone, Debug)]
pub struct PassThrough(pub Bytes);

/// The JSON p4c writes for BMv2. `simple_switch_grpc` takes it as it is.
#[derive(Clone, Debug)]
pub struct Bmv2Json(pub Bytes);

/// The `.spec` text p4c-dpdk writes for PNA programs, as software pipelines take it.
#[derive(Clone, Debug)]
pub struct PnaSpec(pub Bytes);

impl DeviceConfig for PassThrough {
    /// An empty config is a config: targets with a built-in program need none.
    fn pack(&self) -> Result<Bytes, PackError> {
        Ok(self.0.clone())
    }
}

impl DeviceConfig for Bmv2Json {
    /// BMv2 crashes or stays silent on files that are not its own, so their shape is checked here.
    fn pack(&self) -> Result<Bytes, PackError> {
        /// The parts of the format without which there is no switch.
        const PARTS: [&str; 3] = ["parsers", "pipelines", "deparsers"];
        let expected = "BMv2 JSON";
        if self.0.is_empty() {
            return Err(PackError::Empty);
        }
        let wrong = |problem: String| PackError::Kind { expected, problem };
        let json: serde_json::Value =
            serde_json::from_slice(&self.0).map_err(|error| wrong(format!("not JSON at all: {error}")))?;
        match PARTS.iter().find(|part| !json.get(part).is_some_and(serde_json::Value::is_array)) {
            None => Ok(self.0.clone()),
            Some(part) => Err(wrong(format!("no list {part:?}"))),
        }
    }
}

impl DeviceConfig for PnaSpec {
    fn pack(&self) -> Result<Bytes, PackError> {
        let wrong = |problem: &str| PackError::Kind { expected: "a PNA spec", problem: problem.into() };
        if self.0.is_empty() {
            return Err(PackError::Empty);
        }
        let text = std::str::from_utf8(&self.0).map_err(|_| wrong("not text"))?;
        // The statement every program has: what happens to each packet.
        let has_apply = text.lines().any(|line| line.trim_start().starts_with("apply"));
        if has_apply { Ok(self.0.clone()) } else { Err(wrong("no apply block")) }
    }
}

/// A compiled program.
#[derive(Clone, Debug)]
pub struct Pipeline<D> {
    /// What the compiler says of it.
    pub p4info: P4Info,
    /// The program.
    pub device_config: D,
    /// A hash of both: a target that shows the same runs the same.
    pub cookie: u64,
}

/// What is to happen with the entries of a target that runs another program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Entries {
    /// They go.
    Clear,
    /// They stay if the target can do that and they fit the new program; else they go. Not for BMv2, which says it can,
    /// fails in the middle, and then takes no program until it is started again.
    KeepIfPossible,
    /// They stay, or the pipeline is not changed.
    Keep,
}

/// What was done to the target.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Brought {
    /// It ran the program already; nothing was done.
    Kept,
    /// It runs the program now and kept its entries.
    Reconciled,
    /// It runs the program now, with empty tables.
    Committed,
}

impl Client {
    /// Sees to it that the target runs this program. Everybody may do this as long as it does; to change it the client has
    /// to be primary.
    pub async fn bring_up<D: DeviceConfig>(
        &self,
        pipeline: &Pipeline<D>,
        entries: Entries,
    ) -> Result<Brought, PipelineError> {
        let running = self.pipeline_config(ResponseType::CookieOnly).await.map_err(PipelineError::Get)?;
        if running.as_ref().and_then(|config| config.cookie) == Some(Cookie { cookie: pipeline.cookie }) {
            return Ok(Brought::Kept);
        }
        let config = ForwardingPipelineConfig {
            p4info: Some(pipeline.p4info.clone()),
            p4_device_config: pipeline.device_config.pack()?,
            cookie: Some(Cookie { cookie: pipeline.cookie }),
        };
        // Without program there are no entries to keep, and BMv2 ends when it is asked to keep them.
        if entries != Entries::Clear && running.is_some() {
            match self.set(Action::ReconcileAndCommit, &config).await {
                Ok(()) => return Ok(Brought::Reconciled),
                Err(error) if entries == Entries::KeepIfPossible && allows_commit(&error) => {}
                Err(error) => return Err(PipelineError::Set(error)),
            }
        }
        self.set(Action::VerifyAndCommit, &config).await.map_err(PipelineError::Set)?;
        Ok(Brought::Committed)
    }

    /// The cookie of the running program; none if none runs, or it came without.
    pub async fn cookie(&self) -> Result<Option<u64>, RequestError> {
        let config = self.pipeline_config(ResponseType::CookieOnly).await?;
        Ok(config.and_then(|config| config.cookie).map(|cookie| cookie.cookie))
    }

    /// P4Info of the running program; none if none runs.
    pub async fn p4info(&self) -> Result<Option<P4Info>, RequestError> {
        Ok(self.pipeline_config(ResponseType::P4infoAndCookie).await?.and_then(|config| config.p4info))
    }

    async fn pipeline_config(
        &self,
        response_type: ResponseType,
    ) -> Result<Option<ForwardingPipelineConfig>, RequestError> {
        let device_id = self.shared.config.device_id;
        let request = GetForwardingPipelineConfigRequest { device_id, response_type: response_type as i32 };
        match self.service()?.get_forwarding_pipeline_config(request).await {
            Ok(response) => Ok(response.into_inner().config),
            // What targets of before 1.4 and PI answer when they have no pipeline.
            Err(status) if status.code() == Code::FailedPrecondition => Ok(None),
            Err(status) => Err(status.into()),
        }
    }

    async fn set(&self, action: Action, config: &ForwardingPipelineConfig) -> Result<(), RequestError> {
        let (channel, election_id) = {
            let link = self.shared.link.borrow();
            (link.primary()?, link.election_id)
        };
        let request = SetForwardingPipelineConfigRequest {
            device_id: self.shared.config.device_id,
            role: self.shared.config.role.name.clone(),
            election_id: election_id.map(Into::into),
            action: action as i32,
            config: Some(config.clone()),
            ..SetForwardingPipelineConfigRequest::default()
        };
        let mut service = P4RuntimeClient::new(channel);
        let answer = service.set_forwarding_pipeline_config(request).await;
        if matches!(&answer, Err(status) if status.code() == Code::PermissionDenied) {
            self.doubt();
        }
        answer.map(|_| ()).map_err(RequestError::from)
    }
}

/// Whether a target that did not keep its entries may still take the program without them. UNIMPLEMENTED: it never keeps
/// any. INVALID_ARGUMENT: not these, or the program is bad, which the next attempt will tell.
fn allows_commit(error: &RequestError) -> bool {
    let RequestError::Refused(refusal) = error else { return false };
    matches!(refusal.code, Code::Unimplemented | Code::InvalidArgument)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problem(result: Result<Bytes, PackError>) -> String {
        result.expect_err("packed what it should not").to_string()
    }

    #[test]
    fn bmv2_takes_its_own_json_only() {
        let good = Bytes::from_static(br#"{"parsers": [], "pipelines": [], "deparsers": []}"#);
        assert_eq!(Bmv2Json(good.clone()).pack(), Ok(good));
        assert_eq!(Bmv2Json(Bytes::new()).pack(), Err(PackError::Empty));
        assert!(problem(Bmv2Json(Bytes::from_static(b"{\"parsers\": []}")).pack()).contains("pipelines"));
        assert!(problem(Bmv2Json(Bytes::from_static(b"[1, 2]")).pack()).contains("parsers"));
        assert!(problem(Bmv2Json(Bytes::from_static(b"apply { }")).pack()).contains("not JSON"));
    }

    #[test]
    fn pna_takes_specs_only() {
        let good = Bytes::from_static(b"struct metadata_t {\n}\napply {\n\trx m.port\n}\n");
        assert_eq!(PnaSpec(good.clone()).pack(), Ok(good));
        assert_eq!(PnaSpec(Bytes::new()).pack(), Err(PackError::Empty));
        assert!(problem(PnaSpec(Bytes::from_static(b"\xff\xfe")).pack()).contains("not text"));
        assert!(problem(PnaSpec(Bytes::from_static(b"{}")).pack()).contains("apply"));
    }

    #[test]
    fn pass_through_changes_nothing() {
        for bytes in [&b""[..], b"\x00\xff"] {
            assert_eq!(PassThrough(Bytes::from_static(bytes)).pack().as_deref(), Ok(bytes));
        }
    }
}
