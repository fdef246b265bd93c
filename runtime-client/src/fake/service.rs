//! The gRPC service over a fake target's state.

use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use futures_util::Stream;
use tokio_util::sync::CancellationToken;
use tonic::transport::server::TlsConnectInfo;
use tonic::{Request, Response, Status, Streaming};

use super::cable::Cut;
use super::state::State;
use crate::proto::p4::v1::p4_runtime_server::P4Runtime;
use crate::proto::p4::v1::{
    CapabilitiesRequest, CapabilitiesResponse, GetForwardingPipelineConfigRequest, GetForwardingPipelineConfigResponse,
    ReadRequest, ReadResponse, SetForwardingPipelineConfigRequest, SetForwardingPipelineConfigResponse,
    StreamMessageRequest, WriteRequest, WriteResponse,
};
use crate::target::{Messages, hear, pipeline_asked_for};

#[derive(Clone)]
pub(super) struct Service {
    pub state: Arc<Mutex<State>>,
}

impl Service {
    /// Nothing panics with the lock held but tests that fail; what they leave is still a state.
    pub fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What cuts the connection a request came on.
pub(super) fn cutter<T>(request: &Request<T>) -> CancellationToken {
    let extensions = request.extensions();
    let plain = extensions.get::<Cut>();
    let cut = plain.or_else(|| extensions.get::<TlsConnectInfo<Cut>>().map(TlsConnectInfo::get_ref));
    cut.map(|cut| cut.0.clone()).unwrap_or_default()
}

#[tonic::async_trait]
impl P4Runtime for Service {
    type StreamChannelStream = Messages;
    type ReadStream = Pin<Box<dyn Stream<Item = Result<ReadResponse, Status>> + Send>>;

    async fn stream_channel(
        &self,
        request: Request<Streaming<StreamMessageRequest>>,
    ) -> Result<Response<Self::StreamChannelStream>, Status> {
        Ok(Response::new(hear(&self.state, request.into_inner())))
    }

    async fn write(&self, _: Request<WriteRequest>) -> Result<Response<WriteResponse>, Status> {
        Err(Status::internal("`Encoded` answers these"))
    }

    async fn read(&self, _: Request<ReadRequest>) -> Result<Response<Self::ReadStream>, Status> {
        Err(Status::internal("`Encoded` answers these"))
    }

    async fn set_forwarding_pipeline_config(
        &self,
        request: Request<SetForwardingPipelineConfigRequest>,
    ) -> Result<Response<SetForwardingPipelineConfigResponse>, Status> {
        self.lock().set_pipeline(request.into_inner())?;
        Ok(Response::new(SetForwardingPipelineConfigResponse {}))
    }

    async fn get_forwarding_pipeline_config(
        &self,
        request: Request<GetForwardingPipelineConfigRequest>,
    ) -> Result<Response<GetForwardingPipelineConfigResponse>, Status> {
        let request = request.into_inner();
        let state = self.lock();
        if request.device_id != state.config.device_id {
            return Err(Status::not_found(format!("no device {}", request.device_id)));
        }
        let config = state.pipeline.as_ref().map(|all| pipeline_asked_for(all, request.response_type()));
        Ok(Response::new(GetForwardingPipelineConfigResponse { config }))
    }

    async fn capabilities(
        &self,
        _request: Request<CapabilitiesRequest>,
    ) -> Result<Response<CapabilitiesResponse>, Status> {
        let p4runtime_api_version = self.lock().config.api_version.clone();
        Ok(Response::new(CapabilitiesResponse { p4runtime_api_version, experimental: None }))
    }
}
