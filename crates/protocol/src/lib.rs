//! The wire, and nothing but the wire: messages, frames, JSON, error codes, and the calls that services make
//! to each other (in one process a function call, between processes the same frames).

pub mod calls;
pub mod error;
pub mod frame;
pub mod json;

/// Generated from `proto/hongbao/v1`.
#[allow(missing_docs, clippy::all, clippy::pedantic)]
pub mod v1 {
    include!(concat!(env!("OUT_DIR"), "/hongbao.v1.rs"));
    include!(concat!(env!("OUT_DIR"), "/hongbao.v1.serde.rs"));
}

/// Generated from `proto/hongbao/peers/v1`: what chat nodes say to each other.
#[allow(missing_docs, clippy::all, clippy::pedantic)]
pub mod peers {
    include!(concat!(env!("OUT_DIR"), "/hongbao.peers.v1.rs"));
}

/// The messages of [`v1`] with their comments: an encoded `google.protobuf.FileDescriptorSet`, from which documents are made.
pub const DESCRIPTOR: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/descriptor.bin"));

/// Version of the protocol that Hello names.
pub const PROTOCOL_VERSION: u32 = 1;
