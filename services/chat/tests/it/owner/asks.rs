//! Requests at several nodes: what is another node's is answered all the same.

use super::cluster::{Cluster, Ground};
use super::hands::user_of;
use crate::world::{into, options, to};
use chat::ChatOptions;
use chat::node::Notice;
use protocol::calls::{CallError, Chat};
use protocol::v1::chat_answer::Answer;
use protocol::v1::chat_request::Ask;
use protocol::v1::{
    AddMembers, Befriend, ConversationsRequest, Delete, DevicesRequest, FriendState, FriendsRequest,
    MakeGroup, MarkRead, MembersRequest, PresenceRequest, ProfilesRequest, RangeRequest, Recall, SetProfile,
    SyncRequest, Unfriend,
};
use std::sync::Arc;

/// Users of the first and the second node, and their conversation, which is the first's.
async fn apart(cluster: &Cluster) -> (u64, u64, u64) {
    let a = user_of(cluster, 1, 1_000);
    let b = user_of(cluster, 2, a);
    let id = cluster.stored(to(a, 1, b, 1)).await.conversation;
    assert_eq!(cluster.of_id(id).unwrap().options().node, 1);
    (a, b, id)
}

async fn friends_of(cluster: &Cluster, user: u64) -> Vec<(u64, FriendState, String)> {
    let ask = Ask::Friends(FriendsRequest::default());
    let Answer::Friends(answer) = cluster.ask(user, ask).await.unwrap() else { panic!("no friends") };
    answer.friends.iter().map(|f| (f.user, f.state(), f.name.clone())).collect()
}

#[tokio::test]
async fn what_names_users_alone_is_passed_on_to_their_conversations_owner() {
    let cluster = Cluster::of(Ground::memory(), 10, &[1]).await;
    let (a, b) = (11, 12);
    let id = cluster.stored(to(a, 1, b, 1)).await.conversation;
    // Now others have parts: somewhere the conversation's owner is not the smaller user's.
    [2, 3].iter().for_each(|node| cluster.start(*node));
    cluster.members(&[1, 2, 3]);
    cluster.settled().await;
    let mut pairs = vec![(a, b, id)];
    for n in 0..24 {
        let (a, b) = (100 + 2 * n, 101 + 2 * n);
        let id = cluster.stored(to(a, 1, b, 1)).await.conversation;
        pairs.push((a, b, id));
    }
    cluster.members(&[2, 3, 4]);
    cluster.start(4);
    cluster.settled().await;
    let node = |id: u64| cluster.of_id(id).unwrap().options().node;
    assert!(pairs.iter().any(|(a, _, id)| node(*a) != node(*id)), "some are apart");
    for (a, b, id) in pairs {
        // By the other's name, and with the number that the conversation counts.
        let answer = cluster.stored(to(a, 1, b, 2)).await;
        assert_eq!((answer.conversation, answer.seq), (id, 2));
        assert_eq!(cluster.done(b, Ask::Befriend(Befriend { user: a })).await, id);
        assert_eq!(cluster.done(a, Ask::Befriend(Befriend { user: b })).await, id);
        cluster.done(b, Ask::Unfriend(Unfriend { user: a, block: true })).await;
    }
    cluster.quiet().await;
    assert_eq!(friends_of(&cluster, b).await, [(a, FriendState::Blocked, String::new())]);
    assert_eq!(friends_of(&cluster, a).await, []);
    cluster.end().await;
}

#[tokio::test]
async fn notices_are_sent_once_by_whichever_node() {
    let cluster = Cluster::of(Ground::memory(), 11, &[1, 2, 3]).await;
    let account = 5;
    let notice = |mark, user| Notice {
        account,
        mark,
        user,
        body: Box::new(move |language: &str| format!("{mark} in '{language}'").into_bytes()),
    };
    let profile = SetProfile { name: "小红".to_owned(), language: "zh-CN".to_owned() };
    cluster.ask(21, Ask::SetProfile(profile)).await.unwrap();
    for node in 1..=3 {
        let notices: Vec<Notice> = (20..26).flat_map(|user| [notice(1, user), notice(2, user)]).collect();
        while let Err(error) = cluster.node(node).notify(&notices).await {
            assert!(matches!(error, CallError::Unavailable(_) | CallError::Busy(_)), "{error}");
        }
    }
    cluster.quiet().await;
    for user in 20..26 {
        let (entries, unread) = cluster.timeline(user).await;
        assert_eq!((entries.len(), unread), (2, 2), "user {user}");
        let range = RangeRequest { conversation: entries[0].0, ..RangeRequest::default() };
        let Answer::Range(range) = cluster.ask(user, Ask::Range(range)).await.unwrap() else {
            panic!("no range")
        };
        let language = if user == 21 { "zh-CN" } else { "" };
        assert_eq!(range.messages[0].body, format!("1 in '{language}'").into_bytes());
    }
    cluster.end().await;
}

#[tokio::test]
async fn reading_deleting_and_recalling_show_at_every_owner() {
    let cluster = Cluster::of(Ground::memory(), 12, &[1, 2, 3]).await;
    let (a, b, id) = apart(&cluster).await;
    cluster.arrive(b, 1);
    for counter in 2..=6 {
        cluster.stored(into(a, 1, id, counter)).await;
    }
    cluster.quiet().await;
    assert_eq!(cluster.timeline(b).await.1, 6);
    let Answer::ReadAt(read) =
        cluster.ask(b, Ask::MarkRead(MarkRead { conversation: id, seq: 2 })).await.unwrap()
    else {
        panic!("no position")
    };
    assert_eq!((read.seq, read.unread, read.unread_total), (2, 4, 4));
    cluster.done(b, Ask::Delete(Delete { conversation: id, seqs: vec![4], all: false })).await;
    cluster.done(a, Ask::Recall(Recall { conversation: id, seq: 5 })).await;
    let refused = cluster.ask(b, Ask::Recall(Recall { conversation: id, seq: 6 })).await;
    assert!(matches!(refused, Err(CallError::Refused(_))), "{refused:?}");
    cluster.quiet().await;
    // Unread are 3 and 6; the recall has a seq and counts for nobody.
    let (entries, unread) = cluster.timeline(b).await;
    assert_eq!((entries, unread), ((1..=7).map(|seq| (id, seq)).collect(), 2));
    cluster
        .until("his devices hear how he has read", |cluster| {
            let got = cluster.door.got.lock().get(&(b * 100 + 1, 1)).cloned().unwrap_or_default();
            got.reads.iter().any(|read| (read.seq, read.unread_total) == (2, 4))
        })
        .await;
    let list = Ask::Conversations(ConversationsRequest::default());
    let Answer::Conversations(list) = cluster.ask(b, list).await.unwrap() else { panic!("no list") };
    let view = &list.conversations[0];
    assert_eq!((view.conversation, view.peer, view.unread, view.last_seq), (id, a, 2, 7));
    let range = Ask::Range(RangeRequest { conversation: id, ..RangeRequest::default() });
    let Answer::Range(range) = cluster.ask(b, range).await.unwrap() else { panic!("no range") };
    let seen: Vec<(u64, bool)> = range.messages.iter().map(|m| (m.seq, m.recalled)).collect();
    assert_eq!(seen, [(1, false), (2, false), (3, false), (5, true), (6, false), (7, false)]);
    let Answer::Devices(devices) = cluster.ask(b, Ask::Devices(DevicesRequest {})).await.unwrap() else {
        panic!("no devices")
    };
    assert_eq!(devices.devices.iter().map(|d| (d.device, d.online)).collect::<Vec<_>>(), [(1, true)]);
    cluster.end().await;
}

#[tokio::test]
async fn a_large_group_tells_heads_and_friends_see_each_other_across_nodes() {
    let options = ChatOptions { write_members_max: 3, ..options() };
    let cluster = Cluster::with(Ground::memory(), 13, options);
    let nodes = [1, 2, 3];
    nodes.iter().for_each(|node| cluster.start(*node));
    cluster.members(&nodes);
    cluster.settled().await;
    let users: Vec<u64> = (0..6).map(|n| user_of(&cluster, 1 + n % 3, 50 * u64::from(n) + 50)).collect();
    users.iter().for_each(|user| cluster.arrive(*user, 1));
    let make = |members: &[u64]| {
        Ask::MakeGroup(MakeGroup { name: "all".to_owned(), members: members.to_vec(), request: 1 })
    };
    let id = cluster.done(users[0], make(&users[1..3])).await;
    assert_eq!(cluster.done(users[0], make(&users[1..3])).await, id, "the same request again");
    cluster.stored(into(users[1], 1, id, 1)).await;
    let add = AddMembers { conversation: id, users: users[3..].to_vec() };
    cluster.done(users[0], Ask::AddMembers(add)).await;
    let last = cluster.stored(into(users[2], 1, id, 1)).await.seq;
    cluster
        .until("everybody who is online hears of the head", |cluster| {
            let got = cluster.door.got.lock();
            users.iter().all(|user| {
                got.get(&(user * 100 + 1, 1)).is_some_and(|got| got.heads.iter().any(|head| head.seq >= last))
            })
        })
        .await;
    cluster.quiet().await;
    let sync = Ask::Sync(SyncRequest { cursor: 1, ..SyncRequest::default() });
    let Answer::Sync(sync) = cluster.ask(users[5], sync).await.unwrap() else { panic!("no sync") };
    assert_eq!(sync.heads.iter().map(|h| (h.conversation, h.seq)).collect::<Vec<_>>(), [(id, last)]);
    let members = Ask::Members(MembersRequest { conversation: id, ..MembersRequest::default() });
    let Answer::Members(members) = cluster.ask(users[4], members).await.unwrap() else { panic!("none") };
    assert_eq!((members.total, members.members.len()), (6, 6));

    // Friends of two nodes see each other; whoever is no friend is not seen.
    let (a, b, c) = (users[0], users[1], users[2]);
    cluster.done(a, Ask::Befriend(Befriend { user: b })).await;
    cluster.done(b, Ask::Befriend(Befriend { user: a })).await;
    cluster.quiet().await;
    let ask = || Ask::Presence(PresenceRequest { users: vec![b, c], watch: true });
    let mut seen = Vec::new();
    let mut tries = 0;
    while !matches!(&seen[..], [(user, true)] if *user == b) {
        let Answer::Presence(answer) = cluster.ask(a, ask()).await.unwrap() else { panic!("no presence") };
        seen = answer.presence.iter().map(|p| (p.user, p.online)).collect();
        tries += 1;
        assert!(tries < 60, "{seen:?}");
    }
    cluster.of_id(b).unwrap().leave(Cluster::at(b, 1));
    cluster
        .until("the watcher hears that he has gone", |cluster| {
            let got = cluster.door.got.lock().get(&(a * 100 + 1, 1)).cloned().unwrap_or_default();
            got.presence.iter().any(|p| p.user == b && !p.online)
        })
        .await;
    let profiles = Ask::Profiles(ProfilesRequest { users: vec![b] });
    assert!(matches!(cluster.ask(a, profiles).await, Ok(Answer::Profiles(_))));
    cluster.end().await;
}

#[tokio::test]
async fn who_names_the_wrong_node_is_told_to_come_again() {
    let cluster = Cluster::of(Ground::memory(), 14, &[1, 2]).await;
    let (a, b, id) = apart(&cluster).await;
    let wrong = cluster.node(2);
    let request = |ask| protocol::v1::ChatRequest { user: a, device: 1, ask: Some(ask) };
    let range = Ask::Range(RangeRequest { conversation: id, ..RangeRequest::default() });
    let asked = wrong.ask(Cluster::at(a, 1).at, request(range)).await;
    assert!(matches!(asked, Err(CallError::Unavailable(_))), "{asked:?}");
    let inbox = Arc::new(protocol::calls::Inbox::new());
    let mut out = Vec::new();
    let send = into(b, 1, id, 1);
    let call = protocol::calls::SendCall { tag: 7, send, from: Cluster::at(b, 1).at };
    wrong.send(&mut vec![call], &inbox, &mut out);
    let answer = &out[0].answer;
    assert_eq!(answer.outcome(), protocol::v1::SendOutcome::Busy);
    assert!(answer.retry_after_ms > 0);
    cluster.end().await;
}
