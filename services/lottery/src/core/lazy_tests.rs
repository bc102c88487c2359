//! Buckets as a cluster holds them: claimed, opened user by user, given up.

use super::lease::tests::got;
use super::tests_support::{TestLog, core, plan};
use super::wins::win;
use super::{Core, Hold, Now, Want};
use campaign::{CampaignId, Limits, RoundId, UserId};
use protocol::calls::{Inbox, SubmitCall, SubmitReply};
use protocol::v1::Outcome;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::Waker;

const LIMITS: Limits = Limits {
    wins_round: 2,
    wins_day: 0,
    wins_campaign: 0,
    participation_ms: 0,
    interval_ms: 1_000,
    shakes_per_second: 3,
};

struct World {
    core: Core,
    log: Arc<TestLog>,
    inbox: Arc<Inbox>,
}

impl World {
    fn new() -> World {
        let (core, log) = core(plan(LIMITS, &[(5, 1, 1_000)]));
        let pool = core.campaigns().get(1).unwrap().round(RoundId(1)).unwrap().pool.clone();
        assert!(pool.install(&got(1, 5, &[(0, 900, 1000, 900, 1)]), 0));
        World { core, log, inbox: Arc::new(Inbox::new()) }
    }

    fn submit(&self, ms: u64, user: u64, counter: u32) -> Option<SubmitReply> {
        let call = SubmitCall { tag: 9, user, campaign: 1, round: 1, counter, shakes: 3, district: 0 };
        let mut out = Vec::new();
        self.core.submit(Now { ms, may_win: true }, &[call], &self.inbox, &mut out);
        out.pop()
    }

    fn outcome(&self, ms: u64, user: u64, counter: u32) -> Outcome {
        self.submit(ms, user, counter).unwrap().outcome
    }

    fn late(&self) -> Vec<SubmitReply> {
        let mut out = Vec::new();
        self.inbox.take(&mut out, Waker::noop());
        out
    }
}

fn bucket(user: u64) -> usize {
    hashring::bucket_of(user).index()
}

fn want(user: u64, term: u32) -> Want {
    Want { bucket: bucket(user) as u16, term, user: UserId(user), campaign: CampaignId(1) }
}

#[test]
fn a_user_of_a_lazy_bucket_draws_when_his_past_is_known() {
    let w = World::new();
    w.core.wait(bucket(42), 7);
    assert_eq!(w.outcome(100_200, 42, 1), Outcome::Pending);
    assert!(!w.core.wants(), "nobody is asked for before the store has passed");
    w.core.open(bucket(42), 7);
    for _ in 0..3 {
        let put_off = w.submit(100_200, 42, 1).unwrap();
        assert_eq!((put_off.outcome, put_off.next_counter), (Outcome::Pending, 1), "no counter is used");
    }
    assert!(w.core.wants());
    assert_eq!(w.core.take_wanted(10), [want(42, 7)], "once");
    assert!(!w.core.wants() && w.core.take_wanted(10).is_empty());
    assert!(!w.core.restore(&want(42, 6), []), "an answer to another term");
    assert_eq!(w.outcome(100_300, 42, 1), Outcome::Pending);
    assert!(w.core.restore(&want(42, 7), [win(42, 1, 0, 1, 100_100)]));
    let told = w.submit(100_400, 42, 1).unwrap();
    assert_eq!((told.outcome, told.next_counter), (Outcome::Won, 2), "what he won elsewhere is told here");
    assert_eq!(w.submit(101_400, 42, 2), None, "his second win");
    w.log.acknowledge_all();
    assert_eq!(w.late().len(), 1);
    assert_eq!(w.outcome(102_500, 42, 3), Outcome::LimitReached, "wins elsewhere count");
    assert!(w.core.restore(&want(42, 7), []), "a second answer changes nothing");
    assert_eq!(w.outcome(102_600, 42, 2), Outcome::Won);
}

#[test]
fn a_bucket_that_is_given_up_still_tells_what_is_safe() {
    let w = World::new();
    w.core.open(bucket(42), 7);
    w.core.restore(&want(42, 7), []);
    assert_eq!(w.core.seal(bucket(42)), 0, "nothing was won");
    w.core.open(bucket(42), 8);
    w.core.restore(&want(42, 8), []);
    assert_eq!(w.submit(100_200, 42, 1), None);
    assert_eq!(w.core.seal(bucket(42)), 2, "the win stands at position 1");
    assert_eq!(w.core.hold(bucket(42)), Hold::Held);
    assert_eq!(w.outcome(101_300, 42, 2), Outcome::Pending, "no new draw");
    assert_eq!(w.outcome(101_300, 42, 1), Outcome::Pending, "not safe yet");
    w.log.acknowledged.store(2, Ordering::SeqCst);
    assert_eq!(w.outcome(101_300, 42, 1), Outcome::Won);
    assert_eq!(w.core.users(), 1);
    w.core.release(bucket(42));
    assert_eq!(w.outcome(101_300, 42, 1), Outcome::Pending);
    assert_eq!(w.core.users(), 0);
}

#[test]
fn only_users_without_wins_of_the_term_are_forgotten() {
    let w = World::new();
    let users: Vec<u64> = (1..40).collect();
    for &user in &users {
        w.core.open(bucket(user), 3);
    }
    for &user in &users {
        let past = (user % 3 == 0).then(|| win(user, 1, 0, 1, 100_000));
        assert!(w.core.restore(&want(user, 3), past));
    }
    let winners: Vec<u64> = users.iter().copied().filter(|u| u % 4 == 0).collect();
    for &user in &winners {
        assert_eq!(w.submit(101_200, user, 2), None, "user {user} wins");
    }
    w.log.acknowledge_all();
    assert_eq!(w.core.users(), users.len());
    assert_eq!(w.core.forget_idle(200_000), winners.len());
    for &user in &users {
        let again = w.outcome(101_300, user, 2);
        assert_eq!(again == Outcome::Won, winners.contains(&user), "user {user}");
        if user % 12 == 0 {
            assert_eq!(
                w.outcome(101_300, user, 1),
                Outcome::Won,
                "the win of before is still with user {user}"
            );
        }
    }
    let wanted: Vec<u64> = w.core.take_wanted(1_000).iter().map(|w| w.user.0).collect();
    assert_eq!(wanted.len(), users.len() - winners.len(), "they are read again");
    assert_eq!(w.core.take_wanted(1_000).len(), 0);
}

#[test]
fn those_who_wait_to_be_asked_for_are_bounded() {
    let w = World::new();
    (0..super::BUCKETS).for_each(|b| w.core.open(b, 1));
    let many = super::WANTED_MAX as u64 + 20_000;
    for user in 1..=many {
        assert_eq!(w.outcome(100_200, user, 1), Outcome::Pending);
    }
    let first = w.core.take_wanted(512);
    assert_eq!((first.len(), w.core.wants()), (512, true));
    assert!(w.core.take_wanted(usize::MAX).len() <= super::WANTED_MAX - 512);
    assert!(!w.core.wants());
}
