use super::*;
use proptest::prelude::*;
use protocol::frame::{FrameKind, put};

const MASK: [u8; 4] = [0x11, 0xa2, 0x33, 0xf4];

/// A client's frame.
fn client(first: u8, payload: &[u8]) -> Vec<u8> {
    let mut out = vec![first];
    match payload.len() {
        small @ 0..126 => out.push(0x80 | small as u8),
        middle @ 126..=0xffff => {
            out.push(0x80 | 126);
            out.extend_from_slice(&(middle as u16).to_be_bytes());
        }
        large => {
            out.push(0x80 | 127);
            out.extend_from_slice(&(large as u64).to_be_bytes());
        }
    }
    out.extend_from_slice(&MASK);
    out.extend(payload.iter().enumerate().map(|(i, byte)| byte ^ MASK[i % 4]));
    out
}

fn take(ws: &mut WebSocket, bytes: &[u8]) -> Result<Vec<u8>, Fault> {
    let mut buffer = bytes.to_vec();
    let end = ws.take(&mut buffer, 0, bytes.len())?;
    buffer.truncate(end);
    Ok(buffer)
}

fn frame(body: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    put(&mut out, FrameKind::Send, 3, |out| out.extend_from_slice(body));
    out
}

#[test]
fn refuses_what_the_rfc_refuses() {
    let fault = |bytes: &[u8]| take(&mut WebSocket::default(), bytes).unwrap_err();
    assert_eq!(fault(&client(0x81, b"hello")), Fault::Text);
    assert_eq!(Fault::Text.code(), 1003);
    assert_eq!(fault(&[0x82, 1, 7]), Fault::Unmasked);
    assert_eq!(fault(&client(0xc2, b"")), Fault::Reserved);
    assert_eq!(fault(&client(0x83, b"")), Fault::Opcode(3));
    assert_eq!(fault(&client(0x80, b"")), Fault::Fragments);
    assert_eq!(fault(&client(0x09, b"")), Fault::Control);
    assert_eq!(fault(&client(0x89, &[0; 126])), Fault::Control);
    assert_eq!(fault(&[client(0x02, b""), client(0x82, b"")].concat()), Fault::Fragments);
    assert_eq!(fault(&client(0x88, &1000u16.to_be_bytes())), Fault::Closed);
    assert_eq!(fault(&client(0x82, &frame(b"x")[..8])), Fault::HalfFrame);
    let mut long = vec![0x82, 0xff];
    long.extend_from_slice(&[0xff; 12]);
    assert_eq!(fault(&long), Fault::Length);
}

#[test]
fn pings_are_answered_in_front_of_what_is_sent() {
    let mut ws = WebSocket::default();
    assert_eq!(take(&mut ws, &client(0x89, b"are you there")).unwrap(), b"");
    let mut out = frame(b"abc");
    let plain = out.clone();
    ws.wrap(&mut out);
    assert_eq!(out[..2], [0x8a, 13]);
    assert_eq!(&out[2..15], b"are you there");
    assert_eq!((out[15], usize::from(out[16]), &out[17..]), (0x82, plain.len(), &plain[..]));
    for size in [125usize, 126, 65_535, 65_536] {
        let mut out = vec![1; size];
        ws.wrap(&mut out);
        let head = match size {
            125 => vec![0x82, 125],
            126 => vec![0x82, 126, 0, 126],
            65_535 => vec![0x82, 126, 255, 255],
            _ => vec![0x82, 127, 0, 0, 0, 0, 0, 1, 0, 0],
        };
        assert_eq!(out[..head.len()], head);
        assert_eq!(out.len(), head.len() + size);
    }
    let mut out = Vec::new();
    ws.close(&mut out, 1001, "gone");
    ws.close(&mut out, 1001, "gone");
    assert_eq!(out, [&[0x88, 6, 3, 0xe9][..], b"gone"].concat());
}

proptest! {
    /// However messages are fragmented, mixed with control frames and cut by the network, the stream of frames is the same.
    #[test]
    fn any_cut_and_any_fragmentation(
        messages in prop::collection::vec(prop::collection::vec(prop::collection::vec(any::<u8>(), 0..300), 0..4), 1..6),
        pieces in prop::collection::vec(1usize..200, 1..20),
        cuts in prop::collection::vec(1usize..120, 1..40),
        pings: bool,
    ) {
        let (mut wire, mut plain) = (Vec::new(), Vec::new());
        let mut piece = pieces.iter().cycle();
        for message in &messages {
            let payload: Vec<u8> = message.iter().flat_map(|body| frame(body)).collect();
            plain.extend_from_slice(&payload);
            let (mut at, mut first) = (0, true);
            loop {
                let end = (at + piece.next().unwrap()).min(payload.len());
                let (op, last) = (if first { BINARY } else { CONTINUATION }, end == payload.len());
                wire.extend(client(op | if last { 0x80 } else { 0 }, &payload[at..end]));
                (at, first) = (end, false);
                if pings {
                    wire.extend(client(0x80 | PING, b"ping"));
                }
                if last {
                    break;
                }
            }
        }
        let mut ws = WebSocket::default();
        let (mut got, mut carried, mut at) = (Vec::new(), Vec::new(), 0);
        let mut cut = cuts.iter().cycle();
        while at < wire.len() {
            let size = (*cut.next().unwrap()).min(wire.len() - at);
            let mut buffer = carried.clone();
            buffer.extend_from_slice(&wire[at..at + size]);
            at += size;
            let filled = buffer.len();
            let end = ws.take(&mut buffer, carried.len(), filled).unwrap();
            // What a session does: whole frames are taken, the rest waits.
            let whole = last_boundary(&buffer[..end], 0);
            got.extend_from_slice(&buffer[..whole]);
            carried = buffer[whole..end].to_vec();
        }
        prop_assert!(carried.is_empty());
        prop_assert_eq!(got, plain);
        prop_assert_eq!(ws.answers.is_empty(), !pings);
    }

    #[test]
    fn never_panics(bytes in prop::collection::vec(any::<u8>(), 0..200), cut in 0usize..200) {
        let mut ws = WebSocket::default();
        let cut = cut.min(bytes.len());
        if take(&mut ws, &bytes[..cut]).is_ok() {
            let _ = take(&mut ws, &bytes[cut..]);
        }
    }
}
