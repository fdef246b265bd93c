//! gRPC's `Write` with a request that is bytes already.

use prost::bytes::{Buf, BufMut, Bytes};
use tonic::codec::{BufferSettings, Codec, DecodeBuf, Decoder, EncodeBuf, Encoder};
use tonic::{Request, Status};

/// An encoded `WriteRequest` out, an empty `WriteResponse` in.
pub(super) struct Raw {
    /// Of the request.
    len: usize,
}

/// Sends a request and waits for its answer.
pub(super) async fn write(channel: tonic::transport::Channel, request: Bytes) -> Result<(), Status> {
    let mut grpc = tonic::client::Grpc::new(channel);
    grpc.ready().await.map_err(|error| Status::unavailable(error.to_string()))?;
    let path = http_path();
    let codec = Raw { len: request.len() };
    grpc.unary(Request::new(request), path, codec).await.map(|_| ())
}

fn http_path() -> tonic::codegen::http::uri::PathAndQuery {
    tonic::codegen::http::uri::PathAndQuery::from_static("/p4.v1.P4Runtime/Write")
}

impl Codec for Raw {
    type Encode = Bytes;
    type Decode = ();
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        Self { len: self.len }
    }

    fn decoder(&mut self) -> Self {
        Self { len: 0 }
    }
}

impl Encoder for Raw {
    type Item = Bytes;
    type Error = Status;

    fn encode(&mut self, item: Bytes, out: &mut EncodeBuf<'_>) -> Result<(), Status> {
        out.put_slice(&item);
        Ok(())
    }

    /// The whole request and gRPC's five bytes of header at once: no growing while copying.
    fn buffer_settings(&self) -> BufferSettings {
        BufferSettings::new(self.len + 5, self.len + 5)
    }
}

impl Decoder for Raw {
    type Item = ();
    type Error = Status;

    /// The response has no fields; those of a later version say nothing to this one.
    fn decode(&mut self, source: &mut DecodeBuf<'_>) -> Result<Option<()>, Status> {
        source.advance(source.remaining());
        Ok(Some(()))
    }
}
