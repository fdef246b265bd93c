//! Messages and service of P4Runtime 1.4 and later, for controllers and for targets.
//!
//! The `.proto` text under `proto/` was written for this project from the public standard; a test holds every message,
//! field, number, type and enum against the descriptors of the standard's own package. What a field means is said there
//! and in the standard, which is why the generated items have few docs of their own.
//!
//! `bytes` fields are [`prost::bytes::Bytes`]: a value decoded from a message keeps that message's memory alive. Copy
//! what you keep for long.

/// Messages all gRPC services share.
#[allow(missing_docs, clippy::all)]
pub mod google {
    /// Status of an operation and its canonical codes.
    pub mod rpc {
        tonic::include_proto!("google.rpc");
    }
}

/// P4Runtime.
#[allow(missing_docs, clippy::all)]
pub mod p4 {
    /// What describes a program.
    pub mod config {
        /// P4Info and the types in it.
        pub mod v1 {
            tonic::include_proto!("p4.config.v1");
        }
    }

    /// The service and its messages.
    pub mod v1 {
        tonic::include_proto!("p4.v1");
    }
}

/// An encoded `google.protobuf.FileDescriptorSet` of all files and what they import, for gRPC reflection.
pub const FILE_DESCRIPTOR_SET: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/descriptors.bin"));
