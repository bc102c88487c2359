//! What every store of a cluster promises.

use super::make::{Both, adds, author, bucket, entry, gets, head, member, memory, message, pair, postgres};
use chat::core::{ConversationRows, Device, Entry, Fanned, Person, SentKey};
use chat::store::owned::{
    ConversationOutcome as C, ConversationStep, Fence, LinkRow, Listed, Name, Outcomes, Step,
    TimelineOutcome as T, TimelineStep,
};
use chat::store::owners::{BucketTerm, OwnerTick};
use ownership::EndReason;
use protocol::v1::ConversationKind;

const BIG: u64 = 1 << 63 | 5;

fn one(step: ConversationStep) -> Step {
    Step { conversations: vec![step], ..Step::default() }
}

fn line(step: TimelineStep) -> Step {
    Step { timelines: vec![step], ..Step::default() }
}

fn told(outcome: C) -> Outcomes {
    Outcomes { conversations: vec![outcome], timelines: Vec::new() }
}

fn added(new: &[bool]) -> Outcomes {
    Outcomes { conversations: Vec::new(), timelines: vec![T::Added { new: new.to_vec() }] }
}

async fn conversations(both: &Both) {
    let shelf = &both.shelf;
    let fence = both.begin(1, &[5, 6, 7]).await;
    assert_eq!(shelf.step(&fence, &Step::default()).await.unwrap(), Outcomes::default());
    assert!(
        shelf.conversations(&[5]).await.unwrap().is_empty() && shelf.heads(&[5]).await.unwrap().is_empty()
    );
    assert_eq!(shelf.named(Name::Pair { low: 1, high: 2 }).await.unwrap(), None);
    let first = ConversationStep { name: pair(1, 2), ..adds(5, 1, 1..=40) };
    // The same again, as after a lost answer, is the same.
    for _ in 0..2 {
        assert_eq!(shelf.step(&fence, &one(first.clone())).await.unwrap(), told(C::Done));
        let found = shelf.conversations(&[5, 99, 5]).await.unwrap();
        let found = &found[0];
        assert_eq!((found.id, found.version, found.fanned), (5, 1, Fanned::default()));
        assert_eq!(
            (&found.head, &found.members, &found.authors),
            (&first.rows.head, &first.rows.members, &first.rows.authors)
        );
        let recent: Vec<u64> = found.recent.iter().map(|m| m.seq).collect();
        assert_eq!(recent, (25..=40).collect::<Vec<u64>>());
        assert_eq!(shelf.messages(5, 39, 900).await.unwrap(), [39, 40].map(|seq| (*message(5, seq)).clone()));
        assert!(shelf.messages(5, 3, 2).await.unwrap().is_empty());
        assert_eq!(shelf.pairs(&[(1, 2), (2, 3)]).await.unwrap(), [(1, 2, 5)]);
        assert_eq!(shelf.named(Name::Pair { low: 1, high: 2 }).await.unwrap(), Some(5));
        assert_eq!(shelf.heads(&[99, 5]).await.unwrap(), [(5, 1, head(40))]);
    }
    // Another one can't get the name, and is not there then.
    let other = ConversationStep { name: pair(1, 2), ..adds(6, 1, 1..=2) };
    assert_eq!(shelf.step(&fence, &one(other)).await.unwrap(), told(C::Named { conversation: 5 }));
    assert!(shelf.conversations(&[6]).await.unwrap().is_empty());
    // Refused for where it stands; each by itself.
    let steps = Step {
        conversations: vec![
            adds(5, 3, 41..=42),
            adds(5, 2, 42..=43),
            ConversationStep {
                name: Some(Name::Made { user: 1, device: 2, request: 3 }),
                ..adds(6, 1, 1..=1)
            },
            adds(7, 2, 1..=1),
        ],
        ..Step::default()
    };
    for refused in [&steps.conversations[0], &steps.conversations[1]] {
        let outcome = shelf.step(&fence, &one(refused.clone())).await.unwrap();
        assert_eq!(outcome, told(C::Moved { version: 1, last_seq: 40 }));
    }
    let apart = Step { conversations: steps.conversations[1..].to_vec(), ..Step::default() };
    let outcomes = shelf.step(&fence, &apart).await.unwrap().conversations;
    let nowhere = C::Moved { version: 0, last_seq: 0 };
    assert_eq!(outcomes, [C::Moved { version: 1, last_seq: 40 }, C::Done, nowhere]);
    assert_eq!(shelf.named(Name::Made { user: 1, device: 2, request: 3 }).await.unwrap(), Some(6));
    assert!(shelf.pairs(&[(1, 2), (2, 3), (1, 3)]).await.unwrap().len() == 1, "a made one is no pair");
    // Members go, come back and change; a step without messages moves the version alone.
    let rows = ConversationRows {
        id: 5,
        head: head(41),
        members: vec![member(9, 3), member(BIG, 41)],
        gone: vec![2, BIG],
        authors: vec![author(BIG, 1)],
        messages: vec![message(5, 41)],
    };
    let second = ConversationStep { rows, version: 2, before_seq: 40, ..ConversationStep::default() };
    assert_eq!(shelf.step(&fence, &one(second.clone())).await.unwrap(), told(C::Done));
    let rows = ConversationRows {
        id: 5,
        head: head(41),
        members: vec![member(9, 41)],
        ..ConversationRows::default()
    };
    let third = ConversationStep { rows, version: 3, before_seq: 41, ..ConversationStep::default() };
    assert_eq!(shelf.step(&fence, &one(third)).await.unwrap(), told(C::Done));
    // A late copy of the second changes nothing.
    assert_eq!(shelf.step(&fence, &one(second)).await.unwrap(), told(C::Moved { version: 3, last_seq: 41 }));
    let found = &shelf.conversations(&[5]).await.unwrap()[0];
    assert_eq!(found.members, [member(9, 41), member(BIG, 41)]);
    assert_eq!(found.authors, [author(2, 40), author(BIG, 1)]);
    let links = shelf.links(BIG, &[5, 6, 7]).await.unwrap();
    let places: Vec<_> =
        links.iter().map(|l| (l.conversation, l.version, l.member.read_seq, l.own)).collect();
    assert_eq!(places, [(5, 3, 41, 1), (6, 1, 0, 0)]);
    assert!(shelf.links(2, &[5]).await.unwrap().is_empty());
    let key = SentKey { conversation: 5, sender: 2, device: 7, counter: 13 };
    assert_eq!(shelf.sent(key, 1_000).await.unwrap().unwrap().seq, 13);
    assert_eq!(shelf.sent(SentKey { counter: 14, ..key }, 1_000).await.unwrap(), Err(true));
    assert_eq!(shelf.sent(SentKey { conversation: 99, ..key }, 1_000).await.unwrap(), Err(true));
}

async fn fan_out(both: &Both) {
    let shelf = &both.shelf;
    let ids = [11, 12, 13];
    let fence = both.begin(1, &ids).await;
    let buckets = ids.map(bucket);
    for id in ids {
        shelf.step(&fence, &one(adds(id, 1, 1..=3))).await.unwrap();
    }
    let behind = |after, limit| async move { shelf.unfanned(&buckets, after, limit).await.unwrap() };
    assert_eq!(behind(0, 9).await, ids);
    assert_eq!((behind(0, 2).await, behind(12, 9).await), (vec![11, 12], vec![13]));
    assert_eq!(shelf.unfanned(&[bucket(12)], 0, 9).await.unwrap(), [12]);
    assert_eq!(shelf.conversations(&[12]).await.unwrap()[0].recent.len(), 3);
    // Raised by itself, with the next step, and by a step that was done before; never lowered.
    let whole = Fanned { version: 1, seq: 3 };
    let told_more = Step { fanned: vec![(11, whole), (99, whole)], ..Step::default() };
    assert_eq!(shelf.step(&fence, &told_more).await.unwrap(), Outcomes::default());
    assert_eq!(behind(0, 9).await, [12, 13]);
    let next = ConversationStep { fanned: whole, ..adds(12, 2, 4..=4) };
    for _ in 0..2 {
        assert_eq!(shelf.step(&fence, &one(next.clone())).await.unwrap(), told(C::Done));
        let found = &shelf.conversations(&[12]).await.unwrap()[0];
        assert_eq!((found.version, found.fanned), (2, whole));
    }
    let again = ConversationStep { fanned: whole, ..adds(13, 1, 1..=3) };
    assert_eq!(shelf.step(&fence, &one(again)).await.unwrap(), told(C::Done));
    let less = Step {
        fanned: vec![(12, Fanned { version: 2, seq: 1 }), (13, Fanned::default())],
        ..Step::default()
    };
    shelf.step(&fence, &less).await.unwrap();
    assert_eq!(shelf.conversations(&[12]).await.unwrap()[0].fanned, Fanned { version: 2, seq: 3 });
    assert!(behind(0, 9).await.is_empty());
    // Whoever does not own it raises nothing.
    let stranger = Fence { terms: vec![(bucket(11), 7)], ..fence.clone() };
    shelf.step(&fence, &one(adds(11, 2, 4..=4))).await.unwrap();
    let more = Step { fanned: vec![(11, Fanned { version: 2, seq: 4 })], ..Step::default() };
    shelf.step(&stranger, &more).await.unwrap();
    assert_eq!(behind(0, 9).await, [11]);
}

async fn timelines(both: &Both) {
    let shelf = &both.shelf;
    let fence = both.begin(1, &[2, BIG, 5, 6]).await;
    let nobody = shelf.users(&[2]).await.unwrap();
    assert_eq!((nobody.len(), nobody[0].id, nobody[0].links.len()), (1, 2, 0));
    let two = Step { conversations: vec![adds(5, 1, 1..=30), adds(6, 1, 1..=2)], ..Step::default() };
    shelf.step(&fence, &two).await.unwrap();
    let person = Person {
        name: "Li".into(),
        devices: vec![Device { device: 7, ..Device::default() }],
        ..Person::default()
    };
    let link = |conversation, version, member| LinkRow { conversation, version, member, large: false };
    let entries: Vec<Entry> = (1..=30).map(|n| entry(10 * n, 5, n)).collect();
    let first = TimelineStep {
        person: Some(person.clone()),
        links: vec![link(5, 1, true), link(6, 1, true)],
        ..gets(2, 10, entries.clone())
    };
    let all_new = [true; 30];
    for _ in 0..2 {
        assert_eq!(shelf.step(&fence, &line(first.clone())).await.unwrap(), added(&all_new));
        assert_eq!(shelf.entries(2, 0, 99).await.unwrap(), entries);
        assert_eq!(shelf.entries(2, 10, 2).await.unwrap(), entries[1..3]);
        assert!(
            shelf.entries(2, 300, 9).await.unwrap().is_empty()
                && shelf.entries(BIG, 0, 9).await.unwrap().is_empty()
        );
    }
    // Handed over again with news among it: what was there keeps its cursor.
    let mixed = vec![entry(400, 5, 30), entry(410, 6, 1), entry(20, 5, 2), entry(420, 6, 1)];
    let step =
        Step { timelines: vec![gets(2, 11, mixed), gets(BIG, 1, vec![entry(7, 5, 30)])], ..Step::default() };
    let outcomes = shelf.step(&fence, &step).await.unwrap().timelines;
    let news = [vec![false, true, true, false], vec![true]].map(|new| T::Added { new });
    assert_eq!(outcomes, news);
    assert_eq!(shelf.entries(2, 290, 9).await.unwrap(), [entries[29], entry(410, 6, 1)]);
    assert_eq!(shelf.entries(BIG, 0, 9).await.unwrap(), [entry(7, 5, 30)]);
    // A person of a lower stamp and links of versions that are not higher stay out.
    let late = TimelineStep {
        person: Some(Person { name: "old".into(), ..Person::default() }),
        links: vec![link(5, 1, false), link(6, 2, false)],
        ..gets(2, 10, vec![])
    };
    assert_eq!(shelf.step(&fence, &line(late)).await.unwrap(), added(&[]));
    let user = &shelf.users(&[2, BIG]).await.unwrap()[0];
    assert_eq!((user.id, &user.person), (2, &person));
    let links: Vec<_> =
        user.links.iter().map(|l| (l.conversation, l.version, l.head.last_seq, l.own)).collect();
    assert_eq!(links, [(5, 1, 30, 30)]);
    let newer = TimelineStep {
        person: Some(Person { name: "Wu".into(), ..Person::default() }),
        links: vec![link(6, 3, true), link(6, 1, false), link(99, 1, true)],
        ..gets(2, 12, vec![])
    };
    shelf.step(&fence, &line(newer)).await.unwrap();
    let user = &shelf.users(&[2]).await.unwrap()[0];
    assert_eq!(
        (user.person.name.as_str(), user.links.len()),
        ("Wu", 2),
        "a conversation that is not there is not shown"
    );
}

/// A conversation of these users; the first has written in it.
fn of(id: u64, kind: ConversationKind, users: &[u64], name: Option<Name>) -> ConversationStep {
    let mut step = ConversationStep { name, ..adds(id, 1, 1..=3) };
    step.rows.head.kind = kind as u32;
    step.rows.members = users.iter().map(|user| member(*user, 1)).collect();
    step.rows.authors = vec![author(users[0], 2)];
    step
}

async fn lists(both: &Both) {
    let shelf = &both.shelf;
    let (two, group, large) = (31, 32, 33);
    let fence = both.begin(1, &[two, group, large, 1, 2, 3, BIG]).await;
    let pair_of = of(two, ConversationKind::Pair, &[1, BIG], pair(1, BIG));
    let steps = [
        pair_of,
        of(group, ConversationKind::Group, &[1, 2, 3, BIG], None),
        of(large, ConversationKind::Group, &[1, 2], None),
    ];
    shelf.step(&fence, &Step { conversations: steps.to_vec(), ..Step::default() }).await.unwrap();
    assert!(shelf.listed(1, &[]).await.unwrap().is_empty());
    let mut listed = shelf.listed(1, &[large, 99, two, group, two]).await.unwrap();
    listed.sort_by_key(|l| l.link.conversation);
    let places: Vec<_> =
        listed.iter().map(|l| (l.link.conversation, l.peer, l.link.member.user, l.link.own)).collect();
    assert_eq!(places, [(two, BIG, 1, 2), (group, 0, 1, 2), (large, 0, 1, 2)]);
    for listed in &listed {
        let Listed { link, last, .. } = listed;
        assert_eq!((link.version, link.head.last_seq, link.member.read_seq), (1, 3, 1));
        assert_eq!(*last, Some((*message(link.conversation, 3)).clone()));
        assert_eq!(shelf.links(1, &[link.conversation]).await.unwrap(), std::slice::from_ref(link));
    }
    let theirs = shelf.listed(BIG, &[large, two]).await.unwrap();
    assert_eq!(
        theirs.iter().map(|l| (l.link.conversation, l.peer, l.link.own)).collect::<Vec<_>>(),
        [(two, 1, 0)]
    );
    // Persons: those of whom something is stored, as it was stored last.
    assert!(shelf.persons(&[1, 2]).await.unwrap().is_empty() && shelf.persons(&[]).await.unwrap().is_empty());
    let named = |name: &str| Some(Person { name: name.into(), ..Person::default() });
    for (stamp, name) in [(5, "Wu"), (4, "late"), (6, "Li")] {
        let step = TimelineStep { person: named(name), ..gets(BIG, stamp, vec![]) };
        shelf.step(&fence, &line(step)).await.unwrap();
    }
    let persons = shelf.persons(&[1, BIG, 2, BIG]).await.unwrap();
    assert_eq!(persons.iter().map(|(user, p)| (*user, p.name.as_str())).collect::<Vec<_>>(), [(BIG, "Li")]);
    // Who knows whom: by small groups, as timelines have heard, and not by their own conversation.
    let everybody = [1, 2, 3, BIG, 99];
    assert!(shelf.acquainted(1, &everybody).await.unwrap().is_empty());
    let hears = |user, version, member, conversation| {
        let link = LinkRow { conversation, version, member, large: conversation == large };
        line(TimelineStep { links: vec![link], ..gets(user, version, vec![]) })
    };
    for id in [two, group, large] {
        shelf.step(&fence, &hears(1, 1, true, id)).await.unwrap();
    }
    for (user, id) in [(BIG, two), (2, large), (3, group)] {
        shelf.step(&fence, &hears(user, 1, true, id)).await.unwrap();
    }
    assert_eq!(shelf.acquainted(1, &everybody).await.unwrap(), [3]);
    assert_eq!(shelf.acquainted(3, &everybody).await.unwrap(), [1]);
    assert!(shelf.acquainted(BIG, &everybody).await.unwrap().is_empty());
    shelf.step(&fence, &hears(BIG, 1, true, group)).await.unwrap();
    assert_eq!(shelf.acquainted(1, &everybody).await.unwrap(), [3, BIG]);
    assert_eq!(shelf.acquainted(1, &[BIG, BIG]).await.unwrap(), [BIG]);
    shelf.step(&fence, &hears(3, 2, false, group)).await.unwrap();
    assert_eq!(shelf.acquainted(1, &everybody).await.unwrap(), [BIG]);
    assert_eq!(shelf.acquainted(BIG, &everybody).await.unwrap(), [1]);
}

async fn fences(both: &Both) {
    let shelf = &both.shelf;
    let (mine, theirs) = (21, 22);
    assert_ne!(bucket(mine), bucket(theirs));
    let a = both.begin(1, &[mine]).await;
    let b = both.begin(2, &[theirs]).await;
    let both_steps = Step {
        conversations: vec![adds(mine, 1, 1..=1), adds(theirs, 1, 1..=1)],
        timelines: vec![gets(theirs, 1, vec![entry(1, mine, 1)]), gets(mine, 1, vec![entry(1, mine, 1)])],
        ..Step::default()
    };
    // A fence that says so doesn't help.
    let mut terms = [a.terms.clone(), b.terms.clone()].concat();
    terms.sort_unstable();
    let greedy = Fence { terms, ..a.clone() };
    let outcomes = shelf.step(&greedy, &both_steps).await.unwrap();
    assert_eq!(outcomes.conversations, [C::Done, C::NotOwner]);
    assert_eq!(outcomes.timelines, [T::NotOwner, T::Added { new: vec![true] }]);
    assert!(shelf.conversations(&[theirs]).await.unwrap().is_empty());
    assert!(shelf.entries(theirs, 0, 9).await.unwrap().is_empty());
    let next = one(adds(mine, 2, 2..=2));
    let refused = told(C::NotOwner);
    let other_term = Fence { terms: vec![(bucket(mine), 2)], ..a.clone() };
    let other_epoch = Fence { epoch: 2, ..a.clone() };
    let unnamed = Fence { terms: vec![], ..a.clone() };
    for wrong in [other_term, other_epoch, unnamed, Fence { terms: a.terms.clone(), ..b.clone() }] {
        assert_eq!(shelf.step(&wrong, &next).await.unwrap(), refused, "{wrong:?}");
    }
    // Given up, and taken by the other: the old owner's copies find nobody.
    let seals = vec![BucketTerm { bucket: bucket(mine), term: 1 }];
    both.book.tick(&OwnerTick { node: 1, epoch: 1, seals, ..OwnerTick::default() }).await.unwrap();
    assert_eq!(shelf.step(&a, &next).await.unwrap(), refused);
    let taken = both.claim(2, 1, &[mine]).await;
    assert_eq!(taken.terms, [(bucket(mine), 2)]);
    assert_eq!(shelf.step(&a, &next).await.unwrap(), refused);
    assert_eq!(shelf.step(&a, &both_steps).await.unwrap().conversations, [C::NotOwner, C::NotOwner]);
    assert_eq!(shelf.step(&taken, &next).await.unwrap(), told(C::Done));
    // An epoch that was ended writes nothing any more.
    both.clock.advance_ms(3_000);
    both.book.end(2, 1, EndReason::Expired).await.unwrap();
    let third = one(adds(mine, 3, 3..=3));
    assert_eq!(shelf.step(&taken, &third).await.unwrap(), refused);
    assert_eq!(shelf.heads(&[mine]).await.unwrap(), [(mine, 2, head(2))]);
    let begun = both.book.begin(1, 0).await.unwrap();
    let fence = both.claim(1, begun.epoch, &[mine]).await;
    assert_eq!((fence.epoch, fence.terms[0].1), (2, 3));
    assert_eq!(shelf.step(&fence, &third).await.unwrap(), told(C::Done));
}

async fn ids(both: &Both) {
    let shelf = &both.shelf;
    assert_eq!(shelf.reserve_ids(1, 5_000).await.unwrap(), 0);
    assert_eq!(shelf.reserve_ids(1, 4_000).await.unwrap(), 5_000);
    assert_eq!(shelf.reserve_ids(1, 6_000).await.unwrap(), 5_000, "never back");
    assert_eq!((shelf.reserve_ids(1, 1).await.unwrap(), shelf.reserve_ids(2, 9).await.unwrap()), (6_000, 0));
}

#[tokio::test]
async fn the_store_in_memory_keeps_its_promises() {
    conversations(&memory()).await;
    fan_out(&memory()).await;
    timelines(&memory()).await;
    lists(&memory()).await;
    fences(&memory()).await;
    ids(&memory()).await;
}

#[tokio::test]
async fn the_store_in_postgresql_keeps_its_promises() {
    let Some(both) = postgres().await else { return };
    conversations(&both).await;
    ids(&both).await;
    let Some(both) = postgres().await else { return };
    fan_out(&both).await;
    let Some(both) = postgres().await else { return };
    timelines(&both).await;
    let Some(both) = postgres().await else { return };
    lists(&both).await;
    let Some(both) = postgres().await else { return };
    fences(&both).await;
}
