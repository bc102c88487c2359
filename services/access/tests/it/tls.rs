//! TLS by configuration.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::sync::Arc;

use access::{AccessConfig, Count, Limits, TlsConfig};
use protocol::frame::{self, FRAME_MAX, FrameKind, put_message};
use protocol::v1;
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName};
use tokio_rustls::rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned, crypto};

use crate::harness::*;

fn write_pair(folder: &Path) -> (TlsConfig, CertificateDer<'static>) {
    let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
    let config = TlsConfig {
        certificate: folder.join("certificate.pem"),
        key: folder.join("key.pem"),
        frames: true,
        http: true,
    };
    std::fs::write(&config.certificate, made.cert.pem()).unwrap();
    std::fs::write(&config.key, made.signing_key.serialize_pem()).unwrap();
    (config, made.cert.der().clone())
}

type Tls = StreamOwned<ClientConnection, TcpStream>;

fn connect(address: SocketAddr, trusted: &CertificateDer<'static>) -> Tls {
    let mut roots = RootCertStore::empty();
    roots.add(trusted.clone()).unwrap();
    let config = ClientConfig::builder_with_provider(Arc::new(crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let name = ServerName::try_from("localhost").unwrap();
    let client = ClientConnection::new(Arc::new(config), name).unwrap();
    let stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(std::time::Duration::from_secs(30))).unwrap();
    StreamOwned::new(client, stream)
}

fn next(stream: &mut Tls, buffer: &mut Vec<u8>) -> (FrameKind, Vec<u8>) {
    loop {
        if let Some((frame, used)) = frame::next(buffer, FRAME_MAX).unwrap() {
            let owned = (frame.kind, frame.body.to_vec());
            buffer.drain(..used);
            return owned;
        }
        let mut bytes = [0; 4096];
        let n = stream.read(&mut bytes).unwrap();
        assert!(n > 0, "closed");
        buffer.extend_from_slice(&bytes[..n]);
    }
}

fn greet(stream: &mut Tls) {
    let mut out = Vec::new();
    put_message(&mut out, FrameKind::Hello, 1, &v1::Hello { protocol_version: 1, ..v1::Hello::default() });
    stream.write_all(&out).unwrap();
    assert_eq!(next(stream, &mut Vec::new()).0, FrameKind::Welcome);
}

#[test]
fn frames_and_http_within_tls() {
    let folder = tempfile::tempdir().unwrap();
    let (tls, trusted) = write_pair(folder.path());
    let (server, chat) = start_chat_as(AccessConfig { tls: Some(tls), ..AccessConfig::default() });
    let mut stream = connect(server.tcp, &trusted);
    greet(&mut stream);
    let mut out = Vec::new();
    let login = v1::Login { user_token: server.user_token(5), device: 7, ..v1::Login::default() };
    put_message(&mut out, FrameKind::Login, 2, &login);
    stream.write_all(&out).unwrap();
    let mut buffer = Vec::new();
    assert_eq!(next(&mut stream, &mut buffer).0, FrameKind::LoginDone);
    // More than TLS takes in one go.
    let pushes = server.pushes.clone();
    let at = chat.device(5, 7);
    protocol::calls::Pushes::push(&pushes, crate::chat::entries(at, 1..=200, 3_000));
    let mut has = 0;
    while has < 200 {
        let (kind, body) = next(&mut stream, &mut buffer);
        assert_eq!(kind, FrameKind::Push);
        let push = <v1::Push as prost::Message>::decode(&body[..]).unwrap();
        assert_eq!(push.after, has);
        has = push.cursor;
    }
    let mut web = connect(server.http, &trusted);
    web.write_all(b"GET /healthz HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n").unwrap();
    let mut page = String::new();
    web.read_to_string(&mut page).unwrap();
    assert!(page.starts_with("HTTP/1.1 200") && page.ends_with("ok\n"), "{page}");
    let mut plain = server.connect();
    plain.send(FrameKind::Hello, 1, &v1::Hello { protocol_version: 1, ..v1::Hello::default() });
    eventually("refused", || server.control.count(Count::TlsFailed) == 1);
}

#[test]
fn a_new_certificate_is_taken_and_a_bad_one_is_not() {
    let folder = tempfile::tempdir().unwrap();
    let (tls, first) = write_pair(folder.path());
    let (server, _chat) = start_chat_as(AccessConfig { tls: Some(tls.clone()), ..AccessConfig::default() });
    greet(&mut connect(server.tcp, &first));
    let (_, second) = write_pair(folder.path());
    server.control.reload_tls().unwrap();
    greet(&mut connect(server.tcp, &second));
    std::fs::write(&tls.key, "nonsense").unwrap();
    let error = server.control.reload_tls().unwrap_err().to_string();
    assert!(error.contains("key.pem") && error.contains("BEGIN PRIVATE KEY"), "{error}");
    greet(&mut connect(server.tcp, &second));
}

#[test]
fn bad_files_are_named() {
    let folder = tempfile::tempdir().unwrap();
    let (tls, _) = write_pair(folder.path());
    let said = |tls: &TlsConfig| {
        let around = Around::default();
        let config =
            AccessConfig { tls: Some(tls.clone()), limits: Limits::default(), ..AccessConfig::default() };
        bind_error(config, around)
    };
    let other = tempfile::tempdir().unwrap();
    let (pair, _) = write_pair(other.path());
    let mixed = TlsConfig { key: pair.key.clone(), ..tls.clone() };
    let error = said(&mixed);
    assert!(
        error.contains("certificate.pem") && error.contains("key.pem") && error.contains("can't be used"),
        "{error}"
    );
    let error = said(&TlsConfig { certificate: tls.key.clone(), ..tls.clone() });
    assert!(error.contains("has no certificate"), "{error}");
    let error = said(&TlsConfig { key: folder.path().join("missing.pem"), ..tls.clone() });
    assert!(error.contains("missing.pem can't be read"), "{error}");
}
