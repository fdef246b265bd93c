//! gRPC with messages that are bytes already: requests that were encoded from their parts, answers that are looked at where
//! they lie.

use prost::bytes::{Buf, BufMut, Bytes};
use tonic::client::Grpc;
use tonic::codec::{BufferSettings, Codec, DecodeBuf, Decoder, EncodeBuf, Encoder};
use tonic::codegen::http::uri::PathAndQuery;
use tonic::transport::Channel;
use tonic::{Request, Status, Streaming};

/// Encoded messages out and in.
pub(crate) struct Raw {
    /// Of the messages that go out, for room.
    len: usize,
}

impl Raw {
    /// For messages of about this length.
    pub(crate) fn new(len: usize) -> Self {
        Self { len }
    }
}

/// Sends a `WriteRequest` and waits for its answer, which has no fields; those of a later version say nothing to this one.
pub(crate) async fn write(channel: Channel, request: Bytes) -> Result<(), Status> {
    let (mut grpc, codec) = ready(Grpc::new(channel), &request).await?;
    let path = PathAndQuery::from_static("/p4.v1.P4Runtime/Write");
    grpc.unary(Request::new(request), path, codec).await.map(|_| ())
}

/// Sends a `ReadRequest`. What comes are the `ReadResponse`s of the answer, none longer than `longest`.
pub(crate) async fn read(channel: Channel, request: Bytes, longest: usize) -> Result<Streaming<Bytes>, Status> {
    let grpc = Grpc::new(channel).max_decoding_message_size(longest);
    let (mut grpc, codec) = ready(grpc, &request).await?;
    let path = PathAndQuery::from_static("/p4.v1.P4Runtime/Read");
    Ok(grpc.server_streaming(Request::new(request), path, codec).await?.into_inner())
}

async fn ready(mut grpc: Grpc<Channel>, request: &Bytes) -> Result<(Grpc<Channel>, Raw), Status> {
    grpc.ready().await.map_err(|error| Status::unavailable(error.to_string()))?;
    Ok((grpc, Raw::new(request.len())))
}

impl Codec for Raw {
    type Encode = Bytes;
    type Decode = Bytes;
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        Self::new(self.len)
    }

    fn decoder(&mut self) -> Self {
        Self::new(0)
    }
}

impl Encoder for Raw {
    type Item = Bytes;
    type Error = Status;

    fn encode(&mut self, item: Bytes, out: &mut EncodeBuf<'_>) -> Result<(), Status> {
        out.put_slice(&item);
        Ok(())
    }

    /// The whole message and gRPC's five bytes of header at once: no growing while copying.
    fn buffer_settings(&self) -> BufferSettings {
        BufferSettings::new(self.len + 5, self.len + 5)
    }
}

impl Decoder for Raw {
    type Item = Bytes;
    type Error = Status;

    /// The message in the memory it came in.
    fn decode(&mut self, source: &mut DecodeBuf<'_>) -> Result<Option<Bytes>, Status> {
        Ok(Some(source.copy_to_bytes(source.remaining())))
    }
}
