//! Groups: who gets what, roles, growth to read fan-out.

use crate::world::{Ground, World, into};
use protocol::calls::CallError;
use protocol::v1::chat_answer::Answer;
use protocol::v1::chat_request::Ask;
use protocol::v1::{
    AddMembers, ConversationsRequest, Dissolve, FanOut, MarkRead, MembersRequest, Mute, ReadAt,
    RemoveMembers, Rename, Role, SendOutcome, SetRole, SyncRequest,
};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_comes_sees_from_there_and_who_goes_sees_to_there() {
    let ground = Ground::sql(11).await;
    let world = World::start(&ground).await;
    for user in 1..=4 {
        world.arrive(user, 1);
    }
    let id = world.group(1, vec![2, 3], 77).await;
    assert_eq!(world.group(1, vec![2, 3], 77).await, id, "the same request makes no second group");
    world.stored(into(1, 1, id, 1)).await;
    let add = |users| Ask::AddMembers(AddMembers { conversation: id, users });
    world.ask(2, add(vec![4, 3])).await.unwrap();
    world.stored(into(2, 1, id, 1)).await;
    let remove = |users| Ask::RemoveMembers(RemoveMembers { conversation: id, users });
    assert!(matches!(world.ask(2, remove(vec![3])).await, Err(CallError::Refused(_))));
    world.ask(1, remove(vec![3])).await.unwrap();
    world.stored(into(1, 1, id, 2)).await;
    // 1 made, 2 text, 3 joined 4, 4 text, 5 left 3, 6 text.
    let all = |seqs: std::ops::RangeInclusive<u64>| seqs.map(|seq| (id, seq)).collect::<Vec<_>>();
    assert_eq!(world.timeline(2, 0).await, all(1..=6));
    assert_eq!(world.timeline(3, 0).await, all(1..=5));
    assert_eq!(world.timeline(4, 0).await, all(3..=6));
    assert_eq!(world.messages(4, id).await.iter().map(|m| m.seq).collect::<Vec<_>>(), [3, 4, 5, 6]);
    assert_eq!(world.send(into(3, 1, id, 1)).await.outcome(), SendOutcome::NotAllowed);
    let ground = world.kill().await;
    let world = World::start(&ground).await;
    assert_eq!(world.timeline(4, 0).await, all(3..=6));
    let unread = world.ask(4, Ask::MarkRead(MarkRead { conversation: id, seq: 3 })).await.unwrap();
    assert!(matches!(unread, Answer::ReadAt(ReadAt { unread: 2, unread_total: 2, .. })));

    world
        .ask(1, Ask::SetRole(SetRole { conversation: id, user: 2, role: Role::Admin as i32 }))
        .await
        .unwrap();
    world.ask(2, Ask::Mute(Mute { conversation: id, user: 4, muted: true })).await.unwrap();
    assert_eq!(world.send(into(4, 1, id, 1)).await.outcome(), SendOutcome::NotAllowed);
    world.ask(2, Ask::Mute(Mute { conversation: id, user: 4, muted: false })).await.unwrap();
    world.stored(into(4, 1, id, 1)).await;
    assert!(matches!(
        world.ask(2, Ask::Dissolve(Dissolve { conversation: id })).await,
        Err(CallError::Refused(_))
    ));
    world.ask(2, Ask::Rename(Rename { conversation: id, name: "other".into() })).await.unwrap();
    world
        .ask(1, Ask::SetRole(SetRole { conversation: id, user: 2, role: Role::Owner as i32 }))
        .await
        .unwrap();
    let members = Ask::Members(MembersRequest { conversation: id, ..MembersRequest::default() });
    let Answer::Members(members) = world.ask(1, members).await.unwrap() else { panic!() };
    assert_eq!(
        members.members.iter().map(|m| (m.user, m.role)).collect::<Vec<_>>(),
        [(1, 2), (2, 3), (4, 1)]
    );
    world.ask(2, Ask::Dissolve(Dissolve { conversation: id })).await.unwrap();
    assert_eq!(world.send(into(1, 1, id, 3)).await.outcome(), SendOutcome::NotAllowed);
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_group_that_grows_leaves_the_timelines_and_tells_heads() {
    let mut ground = Ground::sql(12).await;
    ground.options.write_members_max = 3;
    let world = World::start(&ground).await;
    for user in 1..=3 {
        world.arrive(user, 1);
    }
    let id = world.group(1, vec![2, 3], 1).await;
    world.stored(into(1, 1, id, 1)).await;
    world.arrive(5, 1);
    world.ask(1, Ask::AddMembers(AddMembers { conversation: id, users: vec![4, 5] })).await.unwrap();
    for counter in 2..=4 {
        world.stored(into(1, 1, id, counter)).await;
    }
    // 1 made, 2 text, 3 joined, 4 read fan-out, 5..=7 texts.
    let all = |seqs: std::ops::RangeInclusive<u64>| seqs.map(|seq| (id, seq)).collect::<Vec<_>>();
    assert_eq!(world.timeline(2, 0).await, all(1..=4));
    assert_eq!(world.timeline(5, 0).await, all(3..=4));
    world.until("heads", |w| w.got(2, 1).heads.last().is_some_and(|h| h.seq == 7)).await;
    world.until("heads", |w| w.got(5, 1).heads.last().is_some_and(|h| h.seq == 7)).await;
    for head in world.got(5, 1).heads {
        let seqs: Vec<u64> = head.messages.iter().map(|m| m.seq).collect();
        assert!(seqs.is_sorted() && seqs.last().is_none_or(|last| *last == head.seq), "{seqs:?}");
    }
    for ground in [world.kill().await] {
        let world = World::start(&ground).await;
        world.arrive(2, 1);
        let sync = Ask::Sync(SyncRequest { cursor: 1, ..SyncRequest::default() });
        let Answer::Sync(sync) = world.ask(2, sync).await.unwrap() else { panic!() };
        assert_eq!(sync.heads.iter().map(|h| (h.conversation, h.seq)).collect::<Vec<_>>(), [(id, 7)]);
        assert_eq!(sync.unread_total, 4);
        let pulled = vec![ReadAt { conversation: id, seq: 7, ..ReadAt::default() }];
        let sync = Ask::Sync(SyncRequest { cursor: 1, limit: 0, pulled });
        let Answer::Sync(sync) = world.ask(2, sync).await.unwrap() else { panic!() };
        assert!(sync.heads.is_empty());
        let read = world.ask(2, Ask::MarkRead(MarkRead { conversation: id, seq: 6 })).await.unwrap();
        assert!(matches!(read, Answer::ReadAt(ReadAt { unread: 1, unread_total: 1, .. })));
        let list = world.ask(1, Ask::Conversations(ConversationsRequest::default())).await.unwrap();
        let Answer::Conversations(list) = list else { panic!() };
        assert_eq!((list.conversations[0].fan_out, list.unread_total), (FanOut::Read as i32, 0));
        world.stored(into(2, 1, id, 1)).await;
        world.until("heads again", |w| w.got(2, 1).heads.last().is_some_and(|h| h.seq == 8)).await;
        world.stop().await;
    }
}
