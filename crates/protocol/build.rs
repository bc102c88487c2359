//! Generates the message types and their JSON mapping from `proto/`, with a compiler written in Rust so that
//! a machine needs no protoc.

fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("cargo:rerun-if-changed=proto");
    let files = protox::compile(["proto/hongbao/v1/play.proto"], ["proto"])?;
    let out = std::path::PathBuf::from(std::env::var("OUT_DIR")?);
    let descriptor = out.join("descriptor.bin");
    std::fs::write(&descriptor, prost_encode(&files))?;
    prost_build::Config::new().compile_fds(files)?;
    pbjson_build::Builder::new()
        .register_descriptors(&std::fs::read(&descriptor)?)?
        .emit_fields()
        .build(&[".hongbao.v1"])?;
    Ok(())
}

fn prost_encode(files: &impl prost::Message) -> Vec<u8> {
    files.encode_to_vec()
}
