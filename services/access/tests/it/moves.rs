//! Clients that are sent elsewhere: at a drain, at shutdown, on scale-out.

use access::{AccessConfig, AccessNode, Count, FixedNodes, Limits, NodeAddress};
use protocol::frame::FrameKind;
use protocol::v1;

use crate::harness::*;

fn node(node: u16) -> AccessNode {
    AccessNode {
        node,
        tcp: format!("host{node}:7600"),
        websocket: format!("ws://host{node}/v1/ws"),
        region: String::new(),
        group: "stable".into(),
        share_permille: 1_000,
        connections: 0,
        load: 0,
        draining: false,
    }
}

fn start_among(limits: Limits) -> Server {
    let nodes = FixedNodes::new(vec![node(1), node(2)]);
    let around = Around { nodes: Some(nodes), ..Around::default() };
    start_as(AccessConfig { limits, ..AccessConfig::default() }, None, around)
}

#[test]
fn at_shutdown_clients_are_sent_to_the_next_node_and_served_until_they_go() {
    let server = start_among(Limits { move_ms: 30_000, move_within_ms: 700, ..Limits::default() });
    let (mut goes, mut stays) = (server.user(5), server.user(6));
    std::thread::scope(|scope| {
        let drained = scope.spawn(|| server.drain());
        eventually("both are told", || {
            server.clock.advance_ms(10);
            server.control.count(Count::Moves) == 2
        });
        for client in [&mut goes, &mut stays] {
            let to: v1::Move = client.expect(FrameKind::Move, 0);
            assert_eq!((to.tcp.as_str(), to.websocket.as_str()), ("host2:7600", "ws://host2/v1/ws"));
            assert_eq!((to.within_ms, to.reason.as_str()), (700, "this node shuts down"));
            assert_eq!(client.submit(7, &entry(1)).counter, 1, "what is under way is answered");
        }
        drop(goes);
        eventually("one has gone", || server.control.status().connections == 1);
        server.clock.advance_ms(31_000);
        let error: v1::Error = stays.expect(FrameKind::Error, 0);
        assert!(error.fatal && error.code == "unavailable", "{error:?}");
        assert_eq!(stays.next(), None);
        assert!(drained.join().unwrap().unfinished.is_empty());
    });
}

#[test]
fn an_operator_drains_at_a_pace_and_newcomers_are_told_too() {
    let server = start();
    assert!(!server.control.drain(None, None), "there is no other node");
    let mut clients: Vec<_> = (1..=6).map(|user| server.user(user)).collect();
    let to = NodeAddress { tcp: "other:1".into(), websocket: String::new() };
    assert!(server.control.drain(Some(to), Some(10)));
    assert!(server.control.announcement().draining);
    server.clock.advance_ms(300);
    eventually("three", || server.control.count(Count::Moves) == 3);
    let mut late = server.user(7);
    eventually("all", || {
        server.clock.advance_ms(100);
        server.control.count(Count::Moves) == 7
    });
    for client in clients.iter_mut().chain([&mut late]) {
        let to: v1::Move = client.expect(FrameKind::Move, 0);
        assert_eq!(to.tcp, "other:1");
    }
}

#[test]
fn some_are_asked_to_move_and_the_others_stay() {
    let server = start_among(Limits::default());
    let clients: Vec<_> = (1..=10).map(|user| server.user(user)).collect();
    assert!(server.control.ask_to_move(3, None));
    eventually("three are told", || {
        server.clock.advance_ms(10);
        server.control.count(Count::Moves) == 3
    });
    for _ in 0..5 {
        server.clock.advance_ms(100);
        std::thread::sleep(std::time::Duration::from_millis(120));
    }
    assert_eq!(server.control.count(Count::Moves), 3);
    assert!(!server.control.announcement().draining);
    assert_eq!(server.control.announcement().connections, 10);
    drop(clients);
}
