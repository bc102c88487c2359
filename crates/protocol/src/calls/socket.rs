//! Reading and writing a socket as far as it goes now.

use super::limits::READ_BYTES;
use std::io::ErrorKind;
use tokio::net::TcpStream;

/// Writes what the socket takes: perhaps nothing.
pub(super) fn write(stream: &TcpStream, bytes: &[u8]) -> Result<usize, String> {
    match stream.try_write(bytes) {
        Ok(n) => Ok(n),
        Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => Ok(0),
        Err(error) => Err(error.to_string()),
    }
}

/// Appends what has come: perhaps nothing. The end of the stream is an error.
pub(super) fn read(stream: &TcpStream, input: &mut Vec<u8>) -> Result<usize, String> {
    input.reserve(READ_BYTES);
    match stream.try_read_buf(input) {
        Ok(0) => Err("the other side closed the connection".to_owned()),
        Ok(n) => Ok(n),
        Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => Ok(0),
        Err(error) => Err(error.to_string()),
    }
}
