//! Strangers and mistaken addresses on real sockets.

use crate::world::{EVERYTHING, NODE, cluster, eventually, patient, serve, tasks};
use protocol::calls::client::{Dialer, Target};
use protocol::calls::{CallKey, Cluster};
use runtime::SystemClock;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

async fn why_not(cluster: Cluster, node: u16) -> String {
    let tasks = tasks();
    let server = serve(&tasks, None);
    let dialer = Dialer::new(cluster, "test/1", patient(), SystemClock::shared(), tasks.stage());
    let peer = dialer.dial(Target { node, address: server.address.to_string() }, EVERYTHING());
    eventually("it is known why", || peer.health().last_error.is_some()).await;
    assert!(!peer.is_up());
    eventually("the server has refused", || server.counts.refused() > 0).await;
    assert_eq!(server.counts.connections(), 0);
    peer.health().last_error.unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_does_not_belong_here_is_refused_and_hears_why() {
    let other = |name| Cluster::new(name, vec![CallKey::new("k1", &[1; 32]).unwrap()]).unwrap();
    assert!(why_not(other("prod"), NODE).await.contains("cluster \"test\", not of \"prod\""));
    assert!(why_not(cluster(2), NODE).await.contains("does not know the cluster's key"));
    assert!(why_not(cluster(1), 8).await.contains("this is node 7, not node 8"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bytes_that_are_no_greeting_end_the_connection() {
    let tasks = tasks();
    let server = serve(&tasks, None);
    let submit = [&[5 + 36u8, 0, 0, 0, 40, 1, 0, 0, 0][..], &[0; 36]].concat();
    for bytes in [&b"GET / HTTP/1.1\r\n\r\n"[..], &[5, 0, 0, 0, 99, 0, 0, 0, 0], &submit] {
        let mut stream = TcpStream::connect(server.address).await.unwrap();
        stream.write_all(bytes).await.unwrap();
        let mut said = Vec::new();
        // Closed with our bytes unread, the connection may end in a reset.
        let _ = stream.read_to_end(&mut said).await;
    }
    eventually("all are refused", || server.counts.refused() == 3).await;
    assert_eq!(server.counts.submits(), 0);
    assert!(server.host.batches.lock().is_empty());
}
