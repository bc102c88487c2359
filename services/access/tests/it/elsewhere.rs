//! Moves from one node to another end to end, with the app's own library, over every kind of connection; and what a TLS
//! handshake may and may not be.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use access::{AccessConfig, Count, Limits, NodeAddress, TlsConfig};
use client::{ClientError, Connection, Credential, Dialer, Options, ReconnectPolicy, Scheduler};
use runtime::{Shutdown, SystemClock};
use tokio_rustls::rustls::pki_types::CertificateDer;
use tokio_rustls::rustls::{ClientConfig, RootCertStore, crypto};

use crate::harness::*;

/// How long anything may take on a slow machine, in ms.
const SOON_MS: u64 = 30_000;

/// A certificate for this machine, and a client's trust in it.
fn localhost(folder: &Path) -> (TlsConfig, Arc<ClientConfig>) {
    certificate(folder, &["localhost", "127.0.0.1"])
}

fn certificate(folder: &Path, names: &[&str]) -> (TlsConfig, Arc<ClientConfig>) {
    let names: Vec<String> = names.iter().map(|&name| name.to_owned()).collect();
    let made = rcgen::generate_simple_self_signed(names).unwrap();
    let config = TlsConfig {
        certificate: folder.join("certificate.pem"),
        key: folder.join("key.pem"),
        frames: true,
        http: true,
    };
    std::fs::write(&config.certificate, made.cert.pem()).unwrap();
    std::fs::write(&config.key, made.signing_key.serialize_pem()).unwrap();
    (config, trusting(made.cert.der().clone()))
}

fn trusting(certificate: CertificateDer<'static>) -> Arc<ClientConfig> {
    let mut roots = RootCertStore::empty();
    roots.add(certificate).unwrap();
    let config = ClientConfig::builder_with_provider(Arc::new(crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    Arc::new(config)
}

fn node(tls: Option<TlsConfig>, limits: Limits) -> Server {
    start_chat_as(AccessConfig { tls, limits, ..AccessConfig::default() }).0
}

/// The address of a server for a kind of connection.
fn address(server: &Server, scheme: &str) -> String {
    let (tcp, http) = (server.tcp.port(), server.http.port());
    match scheme {
        "tcp" | "tls" => format!("{scheme}://localhost:{tcp}"),
        _ => format!("{scheme}://localhost:{http}/v1/ws"),
    }
}

fn options(server: &Server, scheme: &str, tls: &Arc<ClientConfig>) -> Options {
    Options {
        address: address(server, scheme),
        tls: Some(Arc::clone(tls)),
        credential: Credential::User(server.user_token(5)),
        device: 7,
        client: "test".into(),
        answer_ms: SOON_MS,
        heartbeats: None,
        clock: SystemClock::shared(),
    }
}

/// Runs what a client does while the servers' threads serve it.
fn on_a_client<T>(does: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(does)
}

fn told_to_move(server: &Server) {
    eventually("the client is told", || {
        server.clock.advance_ms(10);
        server.control.count(Count::Moves) >= 1
    });
}

#[test]
fn a_drain_leads_clients_to_the_next_node_over_every_kind_of_connection() {
    let folder = tempfile::tempdir().unwrap();
    let (tls, trust) = localhost(folder.path());
    for scheme in ["tcp", "tls", "ws", "wss"] {
        let tls = matches!(scheme, "tls" | "wss").then(|| tls.clone());
        let limits = Limits { move_within_ms: 50, ..Limits::default() };
        let (here, there) = (node(tls.clone(), limits.clone()), node(tls, limits));
        let web = if scheme == "wss" { "wss" } else { "ws" };
        let to =
            NodeAddress { tcp: format!("localhost:{}", there.tcp.port()), websocket: address(&there, web) };
        on_a_client(async {
            let policy = ReconnectPolicy::default().scaled(1);
            let mut dialer = Dialer::new(options(&here, scheme, &trust), policy, || 1 << 63);
            let never = Shutdown::new();
            let mut old = dialer.dial(&never).await.unwrap();
            assert!(here.control.drain(Some(to), Some(100)));
            told_to_move(&here);
            while old.moved().is_none() {
                old.idle(20).await.unwrap();
            }
            let away = old.moved().cloned().unwrap();
            let mut new = dialer.follow(&away, &mut old, &never).await.unwrap();
            // Both answer; then the old one goes, and nothing was missed in between.
            assert_eq!(old.submit(&entry(1)).await.unwrap().counter, 1, "{scheme}: the old one");
            assert_eq!(new.submit(&entry(1)).await.unwrap().counter, 1, "{scheme}: the new one");
            drop(old);
            assert_eq!(there.control.status().connections, 1, "{scheme}");
            new.idle(20).await.unwrap();
            drop(new);
            dialer.dropped();
            // The next connection goes where the move led.
            let mut again = dialer.dial(&never).await.unwrap();
            assert_eq!(again.submit(&entry(2)).await.unwrap().counter, 2, "{scheme}: once more");
        });
        eventually("the drained node is empty", || here.control.status().connections == 0);
        let status = there.control.count(Count::Logins);
        assert_eq!(status, 2, "{scheme}: both logins came to the next node");
    }
}

#[test]
fn the_scheduler_is_asked_within_tls_and_its_word_is_followed() {
    let folder = tempfile::tempdir().unwrap();
    let (tls, trust) = localhost(folder.path());
    let server = node(Some(tls), Limits::default());
    on_a_client(async {
        let scheduler = Scheduler {
            url: format!("https://localhost:{}", server.http.port()),
            tls: Some(Arc::clone(&trust)),
            region: String::new(),
            answer_ms: SOON_MS,
        };
        let said = scheduler.ask(5).await.unwrap();
        assert_eq!((said.node, said.tcp.clone()), (1, server.tcp.to_string()));
        assert_eq!(said.websocket, format!("wss://{}/v1/ws", server.http));
        // The app knows an address where nobody is, and whom to ask.
        let own = Options { address: "wss://localhost:1/v1/ws".into(), ..options(&server, "wss", &trust) };
        let policy = ReconnectPolicy::default().scaled(1);
        let mut dialer = Dialer::new(own, policy, || 0).asking(scheduler.clone(), 5);
        let mut connection = dialer.dial(&Shutdown::new()).await.unwrap();
        assert_eq!(connection.submit(&entry(1)).await.unwrap().counter, 1);
        let open = Scheduler { url: format!("http://localhost:{}", server.http.port()), ..scheduler };
        assert!(open.ask(5).await.is_err(), "without TLS there is no answer");
    });
}

#[test]
fn a_client_talks_to_nobody_but_whom_it_trusts_under_the_name_it_asked_for() {
    let folder = tempfile::tempdir().unwrap();
    let (tls, trust) = localhost(folder.path());
    let server = node(Some(tls), Limits::default());
    let other = tempfile::tempdir().unwrap();
    let (elsewhere, trusts_elsewhere) = certificate(other.path(), &["elsewhere.example"]);
    let wrong_name = node(Some(elsewhere), Limits::default());
    on_a_client(async {
        for scheme in ["tls", "wss"] {
            assert!(Connection::open(options(&server, scheme, &trust)).await.is_ok(), "{scheme}");
            let said = |opened: Result<Connection, ClientError>| match opened.err().unwrap() {
                ClientError::Connect { error, .. } => error.to_string(),
                other => panic!("{scheme}: {other}"),
            };
            let stranger = said(Connection::open(options(&server, scheme, &trusts_elsewhere)).await);
            assert!(stranger.contains("invalid peer certificate"), "{scheme}: {stranger}");
            let named = said(Connection::open(options(&wrong_name, scheme, &trusts_elsewhere)).await);
            assert!(named.contains("not valid for name"), "{scheme}: {named}");
            let nobody = Options { tls: None, ..options(&server, scheme, &trust) };
            assert!(said(Connection::open(nobody).await).contains("whom to trust"), "{scheme}");
        }
    });
    eventually("the handshakes that failed are counted", || {
        server.control.count(Count::TlsFailed) == 2 && wrong_name.control.count(Count::TlsFailed) == 2
    });
}

/// Sends one byte at a time.
struct Trickle(TcpStream);

impl Read for Trickle {
    fn read(&mut self, bytes: &mut [u8]) -> std::io::Result<usize> {
        self.0.read(bytes)
    }
}

impl Write for Trickle {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.write(&bytes[..bytes.len().min(1)])
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.0.flush()
    }
}

#[test]
fn a_handshake_may_come_in_crumbs_but_not_take_for_ever() {
    use protocol::frame::{FrameKind, put_message};
    use tokio_rustls::rustls::pki_types::ServerName;
    use tokio_rustls::rustls::{ClientConnection, StreamOwned};
    let folder = tempfile::tempdir().unwrap();
    let (tls, trust) = localhost(folder.path());
    // Long enough for the crumbs, on a slow machine too; who says nothing is soon shown out by another.
    let patient = node(Some(tls.clone()), Limits { login_ms: 120_000, ..Limits::default() });
    let server = node(Some(tls), Limits { login_ms: 500, ..Limits::default() });
    let stream = TcpStream::connect(patient.tcp).unwrap();
    stream.set_nodelay(true).unwrap();
    stream.set_read_timeout(Some(Duration::from_millis(SOON_MS))).unwrap();
    let name = ServerName::try_from("localhost").unwrap();
    let mut crumbs = StreamOwned::new(ClientConnection::new(trust, name).unwrap(), Trickle(stream));
    let mut out = Vec::new();
    let hello = protocol::v1::Hello { protocol_version: 1, ..Default::default() };
    put_message(&mut out, FrameKind::Hello, 1, &hello);
    crumbs.write_all(&out).unwrap();
    let mut answer = [0; 5];
    crumbs.read_exact(&mut answer).unwrap();
    assert_eq!(answer[4], FrameKind::Welcome as u8);
    // Half a record, and then nothing; and nothing at all.
    let mut half = TcpStream::connect(server.tcp).unwrap();
    half.write_all(&[0x16, 0x03, 0x01, 0x01, 0x00, 0x01]).unwrap();
    let mut mute = TcpStream::connect(server.http).unwrap();
    for silent in [&mut half, &mut mute] {
        silent.set_read_timeout(Some(Duration::from_millis(SOON_MS))).unwrap();
        assert!(matches!(silent.read(&mut [0; 64]), Ok(0) | Err(_)), "it is closed, and nothing is said");
    }
    eventually("both are counted", || server.control.count(Count::TlsFailed) == 2);
}
