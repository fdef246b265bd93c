//! Packets of controllers ("Packet I/O" in the standard): they come and go by a port of the switch.
//!
//! Where P4Info has a controller header, `packet_in` or `packet_out`, its fields are the first bits of a frame and go as
//! metadata; what is behind them is the payload. Without one the whole frame is the payload.

use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};

use dpdk::swx::Wire;
use dpdk::{Burst, Mempool};
use fullnat::frame::Frame;
use p4runtime_proto::p4::config::v1::P4Info;
use p4runtime_proto::p4::v1::{PacketIn, PacketMetadata, PacketOut};
use prost::bytes::Bytes;
use tokio::sync::mpsc;
use tonic::Code;

/// Frames that may wait, each way.
const WAITING: usize = 1024;

/// The server's end of the port of controllers.
pub struct PacketPort {
    pub(super) frames: mpsc::Receiver<Bytes>,
    pub(super) sender: PacketSender,
}

/// Where frames of controllers go.
#[derive(Clone)]
pub(super) struct PacketSender {
    frames: SyncSender<Bytes>,
    /// The longest that there are buffers for.
    longest: usize,
}

/// The engine's end.
struct End {
    to: mpsc::Sender<Bytes>,
    from: Receiver<Bytes>,
    /// There was no buffer for it.
    waiting: Option<Bytes>,
    pool: Mempool,
}

/// Makes a port of controllers: a wire for the engine, which takes buffers from this pool, and the server's end.
pub fn packet_port(pool: Mempool) -> (Box<dyn Wire>, PacketPort) {
    let (to, frames) = mpsc::channel(WAITING);
    let (sender, from) = sync_channel(WAITING);
    let sender = PacketSender { frames: sender, longest: pool.data_room().into() };
    (Box::new(End { to, from, waiting: None, pool }), PacketPort { frames, sender })
}

impl Wire for End {
    fn receive(&mut self, burst: &mut Burst) {
        while burst.room() > 0
            && let Some(frame) = self.waiting.take().or_else(|| self.from.try_recv().ok())
        {
            let Some(mbuf) = self.pool.alloc_with(&frame) else {
                self.waiting = Some(frame);
                return;
            };
            // There is room.
            let _ = burst.push(mbuf);
        }
    }

    fn send(&mut self, burst: &mut Burst) {
        let mut left = Burst::new();
        for mbuf in burst.drain() {
            if self.to.try_send(Bytes::copy_from_slice(mbuf.bytes())).is_err() {
                // As many at most as there were.
                let _ = left.push(mbuf);
            }
        }
        *burst = left;
    }
}

/// Why a packet of a controller is not sent.
pub(super) type Refused = (Code, &'static str);

impl PacketSender {
    /// Gives a frame to the engine.
    pub(super) fn send(&self, frame: Bytes) -> Result<(), Refused> {
        if frame.is_empty() || frame.len() > self.longest {
            return Err((Code::InvalidArgument, "the packet is empty, or longer than a frame can be"));
        }
        self.frames.try_send(frame).map_err(|error| match error {
            TrySendError::Full(_) => (Code::ResourceExhausted, "too many packets wait"),
            TrySendError::Disconnected(_) => (Code::Unavailable, "the pipeline has ended"),
        })
    }
}

/// A field of a controller header.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Field {
    id: u32,
    bits: usize,
    /// Nobody's: left out of metadata, zero in frames.
    is_padding: bool,
}

/// The controller headers of a program.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub(super) struct Headers {
    input: Vec<Field>,
    output: Vec<Field>,
}

impl Headers {
    /// Those of a program's P4Info.
    pub(super) fn new(info: &P4Info) -> Headers {
        let fields = |name: &str| {
            let named = |preamble: &p4runtime_proto::p4::config::v1::Preamble| preamble.name == name;
            let header =
                info.controller_packet_metadata.iter().find(|header| header.preamble.as_ref().is_some_and(named));
            let fields = header.iter().flat_map(|header| &header.metadata).map(|field| Field {
                id: field.id,
                bits: usize::try_from(field.bitwidth).unwrap_or(0),
                is_padding: field.annotations.iter().any(|annotation| annotation.starts_with("@padding")),
            });
            fields.collect()
        };
        Headers { input: fields("packet_in"), output: fields("packet_out") }
    }

    /// A frame for controllers. One that ends within the header is all payload.
    pub(super) fn packet_in(&self, frame: Bytes) -> PacketIn {
        let bits: usize = self.input.iter().map(|field| field.bits).sum();
        if frame.len() * 8 < bits {
            return PacketIn { payload: frame, metadata: Vec::new() };
        }
        let (mut at, mut metadata) = (0, Vec::new());
        for field in &self.input {
            if !field.is_padding {
                metadata.push(PacketMetadata { metadata_id: field.id, value: take(&frame, at, field.bits) });
            }
            at += field.bits;
        }
        PacketIn { payload: frame.slice(bits.div_ceil(8)..), metadata }
    }

    /// The frame that a controller's packet is.
    pub(super) fn frame(&self, packet: &PacketOut) -> Result<Bytes, Refused> {
        let wanted = self.output.iter().filter(|field| !field.is_padding).count();
        if packet.metadata.len() != wanted {
            return Err((Code::InvalidArgument, "the packet must have each field of the header once"));
        }
        let bits: usize = self.output.iter().map(|field| field.bits).sum();
        let mut frame = vec![0; bits.div_ceil(8)];
        let mut at = 0;
        for field in &self.output {
            if !field.is_padding {
                let given = packet.metadata.iter().find(|given| given.metadata_id == field.id);
                let given = given.ok_or((Code::InvalidArgument, "a field of the header is missing"))?;
                put(&given.value, &mut frame, at, field.bits)?;
            }
            at += field.bits;
        }
        frame.extend_from_slice(&packet.payload);
        Ok(frame.into())
    }
}

/// So many bits from bit `at` on, as a number in its shortest form ("Bytestrings" in the standard).
fn take(from: &[u8], at: usize, bits: usize) -> Bytes {
    let mut value = vec![0; bits.div_ceil(8).max(1)];
    let end = value.len() * 8;
    for bit in 0..bits {
        let (source, target) = (at + bit, end - bits + bit);
        value[target / 8] |= (from[source / 8] >> (7 - source % 8) & 1) << (7 - target % 8);
    }
    let zeros = value.iter().take(value.len() - 1).take_while(|byte| **byte == 0).count();
    Bytes::from(value).slice(zeros..)
}

/// Puts a number into so many bits from bit `at` on, which are zero.
fn put(value: &[u8], into: &mut [u8], at: usize, bits: usize) -> Result<(), Refused> {
    let zeros = value.iter().take_while(|byte| **byte == 0).count();
    let digits = &value[zeros..];
    let used = digits.first().map_or(0, |first| digits.len() * 8 - first.leading_zeros() as usize);
    if value.is_empty() || used > bits {
        return Err((Code::OutOfRange, "a field of the header does not fit"));
    }
    for bit in 0..used {
        let (source, target) = (digits.len() * 8 - used + bit, at + bits - used + bit);
        into[target / 8] |= (digits[source / 8] >> (7 - source % 8) & 1) << (7 - target % 8);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use p4runtime_proto::p4::config::v1::controller_packet_metadata::Metadata;
    use p4runtime_proto::p4::config::v1::{ControllerPacketMetadata, Preamble};

    use super::*;

    /// Headers of fields of 3, 9 (of nobody) and 12 bits, for both directions.
    fn headers() -> Headers {
        let field = |id, bitwidth, is_padding: bool| Metadata {
            id,
            bitwidth,
            annotations: is_padding.then(|| "@padding".to_owned()).into_iter().collect(),
            ..Metadata::default()
        };
        let header = |name: &str| ControllerPacketMetadata {
            preamble: Some(Preamble { name: name.to_owned(), ..Preamble::default() }),
            metadata: vec![field(1, 3, false), field(2, 9, true), field(3, 12, false)],
        };
        Headers::new(&P4Info {
            controller_packet_metadata: vec![header("packet_in"), header("packet_out")],
            ..P4Info::default()
        })
    }

    fn metadata(values: &[(u32, &'static [u8])]) -> Vec<PacketMetadata> {
        values.iter().map(|&(metadata_id, value)| PacketMetadata { metadata_id, value: value.into() }).collect()
    }

    #[test]
    fn fields_are_bits_in_front_and_the_rest_is_payload() {
        let packet = PacketOut { payload: b"abc"[..].into(), metadata: metadata(&[(3, &[0, 0x0a, 0xbc]), (1, &[5])]) };
        let frame = headers().frame(&packet).unwrap();
        assert_eq!(frame[..], [0b1010_0000, 0x0a, 0xbc, b'a', b'b', b'c']);
        let back = headers().packet_in(frame);
        assert_eq!(back, PacketIn { payload: packet.payload, metadata: metadata(&[(1, &[5]), (3, &[0x0a, 0xbc])]) });
    }

    #[test]
    fn values_are_in_their_shortest_form() {
        let back = headers().packet_in(Bytes::from_static(&[0x1f, 0xf0, 0x07]));
        assert_eq!(back.metadata, metadata(&[(1, &[0]), (3, &[7])]));
        assert!(back.payload.is_empty());
    }

    #[test]
    fn a_frame_shorter_than_the_header_is_payload() {
        let back = headers().packet_in(Bytes::from_static(&[1, 2]));
        assert_eq!(back, PacketIn { payload: Bytes::from_static(&[1, 2]), metadata: Vec::new() });
    }

    #[test]
    fn without_headers_the_frame_is_the_payload() {
        let packet = PacketOut { payload: b"abc"[..].into(), metadata: Vec::new() };
        assert_eq!(Headers::default().frame(&packet).unwrap(), packet.payload);
        assert_eq!(Headers::default().packet_in(packet.payload.clone()).payload, packet.payload);
        assert!(Headers::default().frame(&PacketOut { metadata: metadata(&[(1, &[1])]), ..packet }).is_err());
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        let refused = |fields: &[(u32, &'static [u8])]| {
            let packet = PacketOut { payload: Bytes::new(), metadata: metadata(fields) };
            headers().frame(&packet).unwrap_err().0
        };
        assert_eq!(refused(&[(1, &[8]), (3, &[1])]), Code::OutOfRange);
        assert_eq!(refused(&[(1, &[1]), (3, &[0x10, 0])]), Code::OutOfRange);
        assert_eq!(refused(&[(1, &[]), (3, &[1])]), Code::OutOfRange);
        assert_eq!(refused(&[(1, &[1])]), Code::InvalidArgument);
        assert_eq!(refused(&[(1, &[1]), (2, &[1])]), Code::InvalidArgument);
    }
}
