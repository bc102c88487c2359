//! What chat nodes say to each other: what crosses, and what is left out.

use crate::world::{KEPT, Mode, NODE, Server, Wire, cluster, eventually, patient, serve_as, tasks};
use parking_lot::Mutex;
use protocol::calls::client::{Dialer, RemoteChatPeers, Target};
use protocol::calls::limits::PEER_MESSAGE_MAX;
use protocol::calls::{ChatPeerHost, ChatPeers, Served};
use runtime::{SystemClock, Tasks};
use std::net::SocketAddr;
use std::sync::Arc;

/// The node that speaks.
const ME: u16 = 12;

/// A chat node that writes down what it hears: from whom, the first bytes as a number, and how many there were.
#[derive(Default)]
struct Host(Mutex<Vec<(u16, u64, usize)>>);

impl ChatPeerHost for Host {
    fn heard(&self, from: u16, message: &[u8]) {
        let number = message.first_chunk().map_or(0, |bytes| u64::from_le_bytes(*bytes));
        self.0.lock().push((from, number, message.len()));
    }
}

fn serve(tasks: &Tasks, at: Option<SocketAddr>) -> Server<Host> {
    serve_as(tasks, at, KEPT, |host| Served { chat_peers: Some(host), ..Served::default() })
}

fn target(node: u16, address: SocketAddr) -> Target {
    Target { node, address: address.to_string() }
}

fn peers(tasks: &Tasks) -> Arc<RemoteChatPeers> {
    let dialer = Dialer::new(cluster(1), "chat 12", patient(), SystemClock::shared(), tasks.stage());
    RemoteChatPeers::new(ME, &dialer)
}

fn is_up(peers: &RemoteChatPeers) -> bool {
    peers.health().iter().any(|(node, health)| *node == NODE && health.links_up == 1 && health.links == 1)
}

fn message(number: u64, bytes: usize) -> Vec<u8> {
    let mut message = number.to_le_bytes().to_vec();
    message.resize(bytes, 7);
    message
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn words_arrive_in_order_with_who_says_them() {
    let tasks = tasks();
    let server = serve(&tasks, None);
    let peers = peers(&tasks);
    peers.follow([target(NODE, server.address), target(ME, server.address)]);
    assert_eq!(peers.health().len(), 1, "nobody dials himself");
    eventually("the other one is reached", || is_up(&peers)).await;
    let sizes = [8, 9, 4_000, PEER_MESSAGE_MAX, 8];
    for (number, bytes) in (0..).zip(sizes) {
        peers.say(NODE, message(number, bytes));
    }
    eventually("all arrive", || server.host.0.lock().len() == sizes.len()).await;
    let expected: Vec<_> = (0..).zip(sizes).map(|(number, bytes)| (ME, number, bytes)).collect();
    assert_eq!(*server.host.0.lock(), expected);
    assert_eq!((server.counts.heard(), peers.lost()), (5, 0));
    // One that is too large, one to nobody, one to oneself.
    peers.say(NODE, message(0, PEER_MESSAGE_MAX + 1));
    peers.say(NODE + 1, message(0, 8));
    peers.say(ME, message(0, 8));
    assert_eq!(peers.lost(), 3);
    peers.say(NODE, message(5, 8));
    eventually("the next one arrives", || server.counts.heard() == 6).await;
    assert_eq!(server.host.0.lock().last(), Some(&(ME, 5, 8)));
    peers.follow([]);
    peers.say(NODE, message(6, 8));
    assert_eq!((peers.lost(), peers.health()), (4, vec![]));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_does_not_read_costs_a_bounded_memory_and_hears_the_rest_later() {
    let tasks = tasks();
    let server = serve(&tasks, None);
    let wire = Wire::new(&tasks, server.address).await;
    let peers = peers(&tasks);
    peers.follow([target(NODE, wire.address)]);
    eventually("the other one is reached", || is_up(&peers)).await;
    wire.set(Mode::Hold);
    let mut said = 0;
    let mut lost = 0;
    // Sockets take some of it; a buffer that is being written and one that waits take 16 MiB each.
    while lost < 3 {
        assert!(said < 128, "nothing is left out");
        peers.say(NODE, message(said, PEER_MESSAGE_MAX));
        said += 1;
        lost = peers.lost();
    }
    wire.set(Mode::Carry);
    eventually("what was taken comes", || server.counts.heard() == said - lost).await;
    let heard: Vec<u64> = server.host.0.lock().iter().map(|(_, number, _)| *number).collect();
    assert!(heard.is_sorted() && heard.len() as u64 == said - lost, "{heard:?}");
    assert!(is_up(&peers), "{:?}", peers.health());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_that_begins_anew_is_reached_again() {
    let tasks = tasks();
    let server = serve(&tasks, None);
    let peers = peers(&tasks);
    peers.say(NODE, message(0, 8));
    peers.follow([target(NODE, server.address)]);
    eventually("the other one is reached", || is_up(&peers)).await;
    server.kill().await;
    eventually("its end is noticed", || !is_up(&peers)).await;
    peers.say(NODE, message(1, 8));
    assert_eq!(peers.lost(), 2, "to nobody yet, and to nobody any more");
    let server = serve(&tasks, Some(server.address));
    eventually("it is reached again", || is_up(&peers)).await;
    peers.say(NODE, message(2, 8));
    eventually("it hears", || *server.host.0.lock() == [(ME, 2, 8)]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_without_others_beside_it_refuses() {
    let tasks = tasks();
    let server = crate::world::serve(&tasks, None);
    let peers = peers(&tasks);
    peers.follow([target(NODE, server.address)]);
    let why = || peers.health()[0].1.last_error.clone().unwrap_or_default();
    eventually("it says why", || why().contains("node 7 does not serve chat peers")).await;
}
