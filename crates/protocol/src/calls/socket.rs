//! Reading and writing a socket as far as it goes now.

use super::limits::{BUFFER_KEPT, READ_BYTES};
use std::io::ErrorKind;
use tokio::io::Interest;
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

/// Writes what lies in a buffer behind the `sent` bytes that have gone; true when nothing is left, and the buffer is empty.
///
/// # Errors
/// As for [`write`].
pub(super) fn write_all(stream: &TcpStream, out: &mut Vec<u8>, sent: &mut usize) -> Result<bool, String> {
    while *sent < out.len() {
        match write(stream, &out[*sent..])? {
            0 => {
                // What is sent makes room before what is left has grown large.
                if *sent > BUFFER_KEPT {
                    out.drain(..*sent);
                    *sent = 0;
                }
                return Ok(false);
            }
            n => *sent += n,
        }
    }
    *sent = 0;
    out.clear();
    if out.capacity() > BUFFER_KEPT {
        *out = Vec::new();
    }
    Ok(true)
}

/// What to wait for on a socket of which all was written, or not, and that may be read, or not.
pub(super) fn interest(may_read: bool, all_sent: bool) -> Interest {
    match (may_read, all_sent) {
        (true, true) => Interest::READABLE,
        (true, false) => Interest::READABLE | Interest::WRITABLE,
        (false, _) => Interest::WRITABLE,
    }
}
