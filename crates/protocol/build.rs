//! Generates the message types from `proto/`, and the JSON mapping of those that players use, with a compiler
//! written in Rust so that a machine needs no protoc.

const PLAYERS: [&str; 2] = ["proto/hongbao/v1/play.proto", "proto/hongbao/v1/chat.proto"];
const INTERNAL: [&str; 2] = ["proto/hongbao/calls/v1/calls.proto", "proto/hongbao/peers/v1/peers.proto"];

fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("cargo:rerun-if-changed=proto");
    // Internal ones first: they only name players' messages, which the second pass generates.
    let internal = protox::compile(INTERNAL, ["proto"])?;
    prost_build::Config::new().extern_path(".hongbao.v1", "crate::v1").compile_fds(internal)?;

    let play = protox::compile(PLAYERS, ["proto"])?;
    let out = std::path::PathBuf::from(std::env::var("OUT_DIR")?);
    let descriptor = out.join("descriptor.bin");
    std::fs::write(&descriptor, prost_encode(&play))?;
    prost_build::Config::new().compile_fds(play)?;
    pbjson_build::Builder::new()
        .register_descriptors(&std::fs::read(&descriptor)?)?
        .emit_fields()
        .build(&[".hongbao.v1"])?;
    Ok(())
}

fn prost_encode(files: &impl prost::Message) -> Vec<u8> {
    files.encode_to_vec()
}
