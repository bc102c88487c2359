//! WebSocket framing (RFC 6455) around the frames of the platform.
//!
//! Binary messages are taken as one stream of whole frames: payloads are unmasked where they were read and moved
//! together, so that behind this layer a WebSocket is a TCP connection like any other. It keeps no payload: only the
//! head of a WebSocket frame that was cut, and a control frame that came in pieces. A message may have as many
//! fragments as the client likes, because each frame within it has its own bound; where a message ends a frame must end.
//!
//! It refuses text, unmasked frames, reserved bits and opcodes, and control frames that are long or in fragments; each with
//! the close code that the RFC names.

pub(crate) mod handshake;

use std::fmt;

use protocol::frame::FRAME_MAX;

/// The head of a client's frame at its longest: two bytes, eight of length, four of mask.
const HEAD_MAX: usize = 14;

/// Payload of a control frame at most.
const CONTROL_MAX: usize = 125;

const CONTINUATION: u8 = 0;
const TEXT: u8 = 1;
const BINARY: u8 = 2;
const CLOSE: u8 = 8;
const PING: u8 = 9;
const PONG: u8 = 10;

/// Why a WebSocket is closed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Fault {
    /// The client said goodbye.
    Closed,
    /// A text message.
    Text,
    /// A frame without a mask.
    Unmasked,
    /// A reserved bit is set.
    Reserved,
    /// An opcode that is none.
    Opcode(u8),
    /// A control frame of more than 125 bytes, or in fragments.
    Control,
    /// A continuation of nothing, or a message within a message.
    Fragments,
    /// A length with its highest bit set.
    Length,
    /// A message that ends within a frame.
    HalfFrame,
}

impl Fault {
    /// The close code.
    pub fn code(self) -> u16 {
        match self {
            Fault::Closed => 1000,
            Fault::Text => 1003,
            Fault::HalfFrame => 1007,
            _ => 1002,
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Fault::Closed => f.write_str("goodbye"),
            Fault::Text => f.write_str("frames are sent in binary messages, not in text"),
            Fault::Unmasked => f.write_str("a client masks its frames"),
            Fault::Reserved => f.write_str("no extension was agreed on, so reserved bits are 0"),
            Fault::Opcode(code) => write!(f, "opcode {code} is unknown"),
            Fault::Control => f.write_str("control frames are whole and have at most 125 bytes"),
            Fault::Fragments => f.write_str("fragments are out of turn"),
            Fault::Length => f.write_str("a length has at most 63 bits"),
            Fault::HalfFrame => f.write_str("a message must end where a frame ends"),
        }
    }
}

/// The state of one WebSocket.
#[derive(Default)]
pub(crate) struct WebSocket {
    /// Payload bytes of the current frame that are to come.
    left: u64,
    head: [u8; HEAD_MAX],
    /// Bytes of the head that have come; all of them while there is payload left.
    have: u8,
    mask: [u8; 4],
    /// Payload bytes so far, modulo 4.
    turn: u8,
    opcode: u8,
    last: bool,
    /// A message has begun and not ended.
    inside: bool,
    in_payload: bool,
    closed: bool,
    /// Payload of a control frame, as far as it has come.
    control: Vec<u8>,
    /// Control frames to send.
    answers: Vec<u8>,
}

impl WebSocket {
    /// Takes `buffer[carried..filled]` as read from the socket, and leaves the bytes of frames behind the `carried` ones that
    /// wait there; gives where they end. The carried bytes begin a frame.
    ///
    /// # Errors
    /// Why the connection ends.
    pub fn take(&mut self, buffer: &mut [u8], carried: usize, filled: usize) -> Result<usize, Fault> {
        let (mut from, mut to, mut boundary) = (carried, carried, 0);
        loop {
            if !self.in_payload {
                if !self.read_head(buffer, &mut from, filled)? {
                    return Ok(to);
                }
                self.in_payload = true;
            }
            let size = usize::try_from(self.left).unwrap_or(usize::MAX).min(filled - from);
            self.unmask(&mut buffer[from..from + size]);
            if self.opcode >= CLOSE {
                self.control.extend_from_slice(&buffer[from..from + size]);
            } else {
                buffer.copy_within(from..from + size, to);
                to += size;
            }
            from += size;
            self.left -= size as u64;
            if self.left > 0 {
                return Ok(to);
            }
            self.in_payload = false;
            if self.opcode >= CLOSE {
                self.answer_control()?;
            } else if self.last {
                self.inside = false;
                boundary = last_boundary(&buffer[..to], boundary);
                if boundary != to {
                    return Err(Fault::HalfFrame);
                }
            }
        }
    }

    /// Reads on at the head of a frame; true when it is whole.
    fn read_head(&mut self, buffer: &[u8], from: &mut usize, filled: usize) -> Result<bool, Fault> {
        loop {
            let needs = head_size(&self.head[..usize::from(self.have)]);
            if usize::from(self.have) == needs {
                break;
            }
            if *from == filled {
                return Ok(false);
            }
            self.head[usize::from(self.have)] = buffer[*from];
            self.have += 1;
            *from += 1;
            if self.have == 2 {
                self.check_head()?;
            }
        }
        let needs = usize::from(std::mem::take(&mut self.have));
        self.left = match self.head[1] & 0x7f {
            126 => u64::from(u16::from_be_bytes([self.head[2], self.head[3]])),
            127 => {
                let mut bytes = [0; 8];
                bytes.copy_from_slice(&self.head[2..10]);
                u64::from_be_bytes(bytes)
            }
            small => u64::from(small),
        };
        if self.left >> 63 != 0 {
            return Err(Fault::Length);
        }
        self.mask.copy_from_slice(&self.head[needs - 4..needs]);
        self.turn = 0;
        Ok(true)
    }

    /// What the first two bytes of a head say.
    fn check_head(&mut self) -> Result<(), Fault> {
        let (first, second) = (self.head[0], self.head[1]);
        if first & 0x70 != 0 {
            return Err(Fault::Reserved);
        }
        if second & 0x80 == 0 {
            return Err(Fault::Unmasked);
        }
        let (last, opcode) = (first & 0x80 != 0, first & 0x0f);
        match opcode {
            TEXT => return Err(Fault::Text),
            CONTINUATION if !self.inside => return Err(Fault::Fragments),
            BINARY if self.inside => return Err(Fault::Fragments),
            CONTINUATION | BINARY => (self.inside, self.last) = (true, last),
            CLOSE | PING | PONG if !last || usize::from(second & 0x7f) > CONTROL_MAX => {
                return Err(Fault::Control);
            }
            CLOSE | PING | PONG => {}
            other => return Err(Fault::Opcode(other)),
        }
        self.opcode = opcode;
        Ok(())
    }

    fn unmask(&mut self, bytes: &mut [u8]) {
        let turn = usize::from(self.turn);
        let mask: [u8; 8] = std::array::from_fn(|i| self.mask[(turn + i) % 4]);
        let word = u64::from_ne_bytes(mask);
        let mut words = bytes.chunks_exact_mut(8);
        for chunk in &mut words {
            let mut eight = [0; 8];
            eight.copy_from_slice(chunk);
            chunk.copy_from_slice(&(u64::from_ne_bytes(eight) ^ word).to_ne_bytes());
        }
        words.into_remainder().iter_mut().zip(mask).for_each(|(byte, mask)| *byte ^= mask);
        self.turn = ((turn + bytes.len()) % 4) as u8;
    }

    fn answer_control(&mut self) -> Result<(), Fault> {
        let payload = std::mem::take(&mut self.control);
        match self.opcode {
            PING => control(&mut self.answers, PONG, &payload),
            CLOSE => return Err(Fault::Closed),
            _ => {}
        }
        Ok(())
    }

    /// Makes one message of what is to be sent, with control frames in front of it.
    pub fn wrap(&mut self, out: &mut Vec<u8>) {
        if out.is_empty() && self.answers.is_empty() {
            return;
        }
        let mut front = std::mem::take(&mut self.answers);
        if !out.is_empty() {
            front.push(0x80 | BINARY);
            match out.len() {
                small @ 0..126 => front.push(small as u8),
                middle @ 126..=0xffff => {
                    front.push(126);
                    front.extend_from_slice(&(middle as u16).to_be_bytes());
                }
                large => {
                    front.push(127);
                    front.extend_from_slice(&(large as u64).to_be_bytes());
                }
            }
        }
        out.splice(0..0, front);
    }

    /// Appends the last frame of the connection, once.
    pub fn close(&mut self, out: &mut Vec<u8>, code: u16, reason: &str) {
        if std::mem::replace(&mut self.closed, true) {
            return;
        }
        let mut payload = code.to_be_bytes().to_vec();
        payload.extend(reason.bytes().take(CONTROL_MAX - 2));
        control(out, CLOSE, &payload);
    }
}

fn control(out: &mut Vec<u8>, opcode: u8, payload: &[u8]) {
    out.extend_from_slice(&[0x80 | opcode, payload.len() as u8]);
    out.extend_from_slice(payload);
}

/// Bytes of a head, as far as its beginning tells.
fn head_size(head: &[u8]) -> usize {
    match head {
        [] | [_] => 2,
        [_, second, ..] => match second & 0x7f {
            126 => 8,
            127 => HEAD_MAX,
            _ => 6,
        },
    }
}

/// Where the last whole frame ends. A length that is none is the session's to complain about.
fn last_boundary(stream: &[u8], mut at: usize) -> usize {
    while let Some(length) = stream.get(at..).and_then(|rest| rest.first_chunk::<4>()) {
        let length = u32::from_le_bytes(*length) as usize;
        if length > FRAME_MAX {
            return stream.len();
        }
        if at + 4 + length > stream.len() {
            break;
        }
        at += 4 + length;
    }
    at
}

#[cfg(test)]
mod tests;
