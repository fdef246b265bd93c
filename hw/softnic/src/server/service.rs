//! The gRPC service over the server's state.

use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use p4runtime_proto::p4::v1::p4_runtime_server::P4Runtime;
use p4runtime_proto::p4::v1::{
    CapabilitiesRequest, CapabilitiesResponse, GetForwardingPipelineConfigRequest, GetForwardingPipelineConfigResponse,
    ReadRequest, ReadResponse, SetForwardingPipelineConfigRequest, SetForwardingPipelineConfigResponse,
    StreamMessageRequest, WriteRequest, WriteResponse,
};
use runtime_client::target::{Messages, hear, pack_errors, pipeline_asked_for};
use tokio::sync::mpsc;
use tokio_stream::Stream;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming};

use super::read::Cursor;
use super::state::State;

/// Entities of one message of a read.
const READ_CHUNK: usize = 256;
/// Messages of a read that wait for the client; the rest waits behind them.
const READ_QUEUE: usize = 2;
/// The version of P4Runtime that the messages are of.
const API_VERSION: &str = "1.4.1";

#[derive(Clone)]
pub(super) struct Service {
    pub(super) state: Arc<Mutex<State>>,
}

impl Service {
    pub(super) fn lock(&self) -> MutexGuard<'_, State> {
        // Nothing panics with the lock held; if it did, what it left would still be a state.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Answers a read no faster than the client takes it.
async fn send_read(service: Service, mut cursor: Cursor, sender: mpsc::Sender<Result<ReadResponse, Status>>) {
    loop {
        let entities = match service.lock().running() {
            Ok(loaded) => cursor.next(&loaded.tables, READ_CHUNK),
            Err(_) => return,
        };
        if entities.is_empty() || sender.send(Ok(ReadResponse { entities })).await.is_err() {
            return;
        }
    }
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

    async fn write(&self, request: Request<WriteRequest>) -> Result<Response<WriteResponse>, Status> {
        match self.lock().write(request.into_inner())? {
            None => Ok(Response::new(WriteResponse {})),
            Some(errors) => Err(pack_errors(&errors)),
        }
    }

    async fn read(&self, request: Request<ReadRequest>) -> Result<Response<Self::ReadStream>, Status> {
        let request = request.into_inner();
        let cursor = {
            let mut state = self.lock();
            state.check_device(request.device_id)?;
            Cursor::new(request.entities, &mut state.running()?.tables)?
        };
        let (sender, receiver) = mpsc::channel(READ_QUEUE);
        tokio::spawn(send_read(self.clone(), cursor, sender));
        Ok(Response::new(Box::pin(ReceiverStream::new(receiver))))
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
        state.check_device(request.device_id)?;
        let config = state.loaded.as_ref().map(|loaded| pipeline_asked_for(&loaded.config, request.response_type()));
        Ok(Response::new(GetForwardingPipelineConfigResponse { config }))
    }

    async fn capabilities(
        &self,
        _request: Request<CapabilitiesRequest>,
    ) -> Result<Response<CapabilitiesResponse>, Status> {
        Ok(Response::new(CapabilitiesResponse { p4runtime_api_version: API_VERSION.into(), experimental: None }))
    }
}
