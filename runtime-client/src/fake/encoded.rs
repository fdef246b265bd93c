//! `Write` and `Read` on encoded messages, and everything else as generated. Controllers delete many entries by their keys and read
//! their counters before; building a message of each would cost the target more than all the rest, and it would measure as slow
//! as no switch is.

use std::convert::Infallible;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use futures_util::Stream;
use prost::bytes::Bytes;
use tonic::body::Body;
use tonic::codegen::Service as HttpService;
use tonic::codegen::http;
use tonic::server::{Grpc, NamedService, ServerStreamingService, UnaryService};
use tonic::{Request, Response, Status};

use super::LONGEST_MESSAGE;
use super::service::{Service, cutter};
use super::state::Batch;
use crate::codec::Raw;
use crate::proto::p4::v1::p4_runtime_server::P4RuntimeServer;
use crate::target::pack_errors;

/// Entities of one message of an answer.
const CHUNK: usize = 128;
/// About the length of such a message.
const CHUNK_BYTES: usize = 16 << 10;

/// The service as it is offered.
#[derive(Clone)]
pub(super) struct Encoded {
    service: Service,
    others: P4RuntimeServer<Service>,
}

type Answer<T, E> = Pin<Box<dyn Future<Output = Result<T, E>> + Send>>;
type Messages = Pin<Box<dyn Stream<Item = Result<Bytes, Status>> + Send>>;

impl Encoded {
    pub fn new(service: Service) -> Self {
        let others = P4RuntimeServer::new(service.clone()).max_decoding_message_size(LONGEST_MESSAGE);
        Self { service, others }
    }
}

impl NamedService for Encoded {
    const NAME: &'static str = P4RuntimeServer::<Service>::NAME;
}

impl HttpService<http::Request<Body>> for Encoded {
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = Answer<Self::Response, Infallible>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        let service = self.service.clone();
        let grpc = |len| Grpc::new(Raw::new(len)).apply_max_message_size_config(Some(LONGEST_MESSAGE), None);
        match request.uri().path() {
            "/p4.v1.P4Runtime/Write" => Box::pin(async move { Ok(grpc(0).unary(Write(service), request).await) }),
            "/p4.v1.P4Runtime/Read" => {
                Box::pin(async move { Ok(grpc(CHUNK_BYTES).server_streaming(Read(service), request).await) })
            }
            _ => self.others.call(request),
        }
    }
}

/// A write.
struct Write(Service);

impl UnaryService<Bytes> for Write {
    type Response = Bytes;
    type Future = Answer<Response<Bytes>, Status>;

    fn call(&mut self, request: Request<Bytes>) -> Self::Future {
        let service = self.0.clone();
        Box::pin(async move {
            let delay = {
                let mut state = service.lock();
                state.stats.writes += 1;
                state.dice.chaos.delay
            };
            if !delay.is_zero() {
                tokio::time::sleep(delay).await;
            }
            let cutter = cutter(&request);
            let batch = Batch::decode(request.get_ref())?;
            let (result, cut) = {
                let mut state = service.lock();
                // The standard has a target be done with the writes of a primary that is gone before there is another. Here
                // they end with their connection: a new arbitration needs the lock that is held.
                if cutter.is_cancelled() {
                    return Err(Status::cancelled("the connection is gone"));
                }
                let cut = state.dice.cut();
                (state.write(batch, cut), cut)
            };
            if cut.is_some() {
                cutter.cancel();
                return Err(Status::unavailable("the connection is cut before this leaves"));
            }
            match result? {
                // A `WriteResponse` has no fields.
                None => Ok(Response::new(Bytes::new())),
                Some(errors) => Err(pack_errors(&errors)),
            }
        })
    }
}

/// A read.
struct Read(Service);

impl ServerStreamingService<Bytes> for Read {
    type Response = Bytes;
    type ResponseStream = Messages;
    type Future = Answer<Response<Messages>, Status>;

    fn call(&mut self, request: Request<Bytes>) -> Self::Future {
        let cutter = cutter(&request);
        let answer = {
            let mut state = self.0.lock();
            let share = state.dice.chaos.cut_read;
            state.read(request.get_ref(), CHUNK).map(|messages| (messages, state.dice.hits(share)))
        };
        Box::pin(async move {
            let (messages, cut) = answer?;
            let whole = tokio_stream::iter(messages.into_iter().map(Ok));
            if !cut {
                return Ok(Response::new(Box::pin(whole) as Messages));
            }
            let begun = tokio_stream::StreamExt::take(whole, 1);
            let end = futures_util::stream::once(async move {
                // Long enough for the message to leave.
                tokio::time::sleep(Duration::from_millis(2)).await;
                cutter.cancel();
                Err(Status::unavailable("the connection is cut before this leaves"))
            });
            Ok(Response::new(Box::pin(tokio_stream::StreamExt::chain(begun, end)) as Messages))
        })
    }
}
