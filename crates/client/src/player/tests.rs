use super::*;
use proptest::prelude::*;
use protocol::v1::{Award, CampaignView, RoundView};
use std::collections::{HashMap, HashSet};

const RULES: PlayerRules =
    PlayerRules { answer_ms: 300, answer_max_ms: 1_000, retry_min_ms: 20, give_up_ms: 5_000 };

fn schedule() -> Schedule {
    let round = |round, open_ms, close_ms| RoundView { round, open_ms, close_ms, ..RoundView::default() };
    let rounds = vec![round(1, 1_000, 20_000), round(2, 21_000, 40_000)];
    Schedule::new(&CampaignView { campaign: 9, interval_ms: 500, rounds, ..CampaignView::default() })
}

fn answer(counter: u32, outcome: Outcome) -> SubmitAnswer {
    SubmitAnswer {
        counter,
        next_counter: counter + u32::from(matches!(outcome, Outcome::Lost | Outcome::Won)),
        outcome: outcome.into(),
        next_submit_ms: 500,
        ..SubmitAnswer::default()
    }
}

fn won(counter: u32, award: u32) -> SubmitAnswer {
    let award = Some(Award { award: format!("{award:026}"), ..Award::default() });
    SubmitAnswer { award, ..answer(counter, Outcome::Won) }
}

fn sent(player: &mut Player, now_ms: u64) -> Outgoing {
    player.poll(now_ms, &schedule(), &RULES).unwrap()
}

#[test]
fn shakes_add_up_and_a_late_answer_is_asked_for_again() {
    let mut p = Player::new(5, 7);
    p.on_shake(2);
    assert_eq!(p.poll(999, &schedule(), &RULES), None);
    p.on_shake(1);
    let first = sent(&mut p, 1_000);
    let expected = Submit { user: 5, campaign: 9, round: 1, counter: 1, shakes: 3, district: 7 };
    assert_eq!((first.submit, first.resend), (expected, false));
    p.on_shake(4);
    assert_eq!(p.poll(1_299, &schedule(), &RULES), None);
    let second = sent(&mut p, 1_300);
    assert_eq!((second.submit, second.resend), (expected, true));
    assert_eq!(p.next_ms(&schedule()), Some(1_900), "the second wait is twice the first");
    // The first attempt's answer comes after all.
    assert_eq!(p.on_answer(1_400, first.attempt, &answer(1, Outcome::Lost), &RULES), Heard::Lost);
    assert_eq!(p.on_answer(1_401, second.attempt, &answer(1, Outcome::Lost), &RULES), Heard::Stale);
    assert_eq!(p.poll(1_899, &schedule(), &RULES), None);
    let next = sent(&mut p, 1_900).submit;
    assert_eq!((next.counter, next.shakes), (2, 4));
}

#[test]
fn too_early_adds_its_shakes_to_the_next_submit_under_the_same_counter() {
    let mut p = Player::new(5, 0);
    p.on_shake(3);
    let first = sent(&mut p, 2_000);
    p.on_shake(2);
    let heard = p.on_answer(2_010, first.attempt, &answer(1, Outcome::TooEarly), &RULES);
    assert_eq!(heard, Heard::NoEntry(Outcome::TooEarly));
    assert_eq!(p.next_ms(&schedule()), Some(2_510));
    let next = sent(&mut p, 2_510).submit;
    assert_eq!((next.counter, next.shakes), (1, 5));
}

#[test]
fn pending_and_busy_ask_the_same_again() {
    let mut p = Player::new(5, 0);
    p.on_shake(3);
    let mut now_ms = 2_000;
    for outcome in [Outcome::Pending, Outcome::Busy, Outcome::Unavailable, Outcome::UnknownCampaign] {
        let asked = sent(&mut p, now_ms);
        assert_eq!((asked.submit.counter, asked.submit.shakes), (1, 3));
        assert_eq!(p.on_answer(now_ms, asked.attempt, &answer(1, outcome), &RULES), Heard::Later(outcome));
        now_ms += 500;
    }
    let asked = sent(&mut p, now_ms);
    assert_eq!(p.on_answer(now_ms, asked.attempt, &won(1, 1), &RULES), Heard::Won { settled: true });
    assert_eq!(p.on_answer(now_ms, asked.attempt, &won(1, 1), &RULES), Heard::KnownWin);
    assert_eq!(p.on_answer(now_ms, asked.attempt, &won(1, 2), &RULES), Heard::Won { settled: false });
}

#[test]
fn is_silent_while_nothing_can_be_won() {
    let mut p = Player::new(5, 0);
    p.on_shake(3);
    let asked = sent(&mut p, 2_000);
    let limit = SubmitAnswer { until_ms: 21_000, ..answer(1, Outcome::LimitReached) };
    assert_eq!(p.on_answer(2_001, asked.attempt, &limit, &RULES), Heard::Silent(Outcome::LimitReached));
    p.on_shake(1);
    assert_eq!(p.poll(20_999, &schedule(), &RULES), None);
    assert_eq!(p.next_ms(&schedule()), Some(21_000));
    let asked = sent(&mut p, 21_000);
    assert_eq!((asked.submit.round, asked.submit.counter, asked.submit.shakes), (2, 1, 1));
    let never = answer(1, Outcome::LimitReached);
    p.on_answer(21_001, asked.attempt, &never, &RULES);
    p.on_shake(1);
    assert_eq!((p.next_ms(&schedule()), p.poll(39_000, &schedule(), &RULES)), (None, None));
}

#[test]
fn waits_for_its_groups_start_and_keeps_its_shakes() {
    let mut p = Player::new(5, 0);
    p.on_shake(3);
    let asked = sent(&mut p, 1_000);
    let start = SubmitAnswer { until_ms: 1_750, ..answer(1, Outcome::NotOpen) };
    assert_eq!(p.on_answer(1_001, asked.attempt, &start, &RULES), Heard::NoEntry(Outcome::NotOpen));
    assert_eq!(p.poll(1_749, &schedule(), &RULES), None);
    assert_eq!(sent(&mut p, 1_750).submit.shakes, 3);
}

#[test]
fn learns_the_counter_and_takes_errors() {
    let mut p = Player::new(5, 0);
    p.on_shake(3);
    let asked = sent(&mut p, 2_000);
    let bad = SubmitAnswer { next_counter: 12, ..answer(1, Outcome::BadCounter) };
    assert_eq!(p.on_answer(2_001, asked.attempt, &bad, &RULES), Heard::NoEntry(Outcome::BadCounter));
    let asked = sent(&mut p, 2_501);
    assert_eq!((asked.submit.counter, asked.submit.shakes), (12, 3));
    assert_eq!(p.on_error(2_502, asked.attempt, Some(1_000), &RULES), Heard::Later(Outcome::Unspecified));
    let asked = sent(&mut p, 3_502);
    assert_eq!(asked.submit.counter, 12);
    assert_eq!(p.on_error(3_503, asked.attempt, None, &RULES), Heard::Refused);
    p.on_shake(1);
    assert_eq!(p.next_ms(&schedule()), Some(21_000));
    let nonsense = SubmitAnswer { outcome: 99, ..answer(1, Outcome::Won) };
    let asked = sent(&mut p, 21_000);
    assert_eq!(p.on_answer(21_000, asked.attempt, &nonsense, &RULES), Heard::Nonsense);
    assert_eq!(p.on_answer(21_000, asked.attempt, &answer(1, Outcome::Won), &RULES), Heard::Nonsense);
    assert_eq!(p.draw(), Some((2, 1)));
}

#[test]
fn a_draw_of_a_round_long_over_is_given_up() {
    let mut p = Player::new(5, 0);
    p.on_shake(3);
    let asked = sent(&mut p, 19_999);
    p.on_disconnect(20_100);
    let again = sent(&mut p, 24_999);
    assert_eq!(again.submit, asked.submit);
    p.on_shake(1);
    let other = sent(&mut p, 26_000).submit;
    assert_eq!((other.round, other.counter, other.shakes), (2, 1, 1));
}

/// A server that gives each draw id one outcome, whatever it is asked and however often, save that it forgets
/// losses when it dies.
#[derive(Default)]
struct Server {
    outcomes: HashMap<(u32, u32), Option<u32>>,
    shakes: HashMap<(u32, u32), u32>,
    awards: u32,
}

impl Server {
    fn answer(&mut self, submit: &Submit, dice: u8) -> SubmitAnswer {
        let id = (submit.round, submit.counter);
        if !self.outcomes.contains_key(&id) {
            match dice % 8 {
                0 => return answer(submit.counter, Outcome::TooEarly),
                1 => return answer(submit.counter, Outcome::Busy),
                2 => return answer(submit.counter, Outcome::Pending),
                3 => self.awards += 1,
                _ => {}
            }
            self.outcomes.insert(id, (dice % 8 == 3).then_some(self.awards));
            self.shakes.insert(id, submit.shakes);
        }
        match self.outcomes[&id] {
            Some(award) => won(submit.counter, award),
            None => answer(submit.counter, Outcome::Lost),
        }
    }

    fn dies(&mut self) {
        self.outcomes.retain(|_, outcome| outcome.is_some());
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]
    /// Requests and answers are dropped, repeated and delayed, connections break, the server dies.
    #[test]
    fn one_draw_at_a_time_no_shake_lost_each_win_once(
        steps in prop::collection::vec((any::<u8>(), any::<u8>(), 1u64..120), 1..400),
    ) {
        let (mut p, mut server, schedule) = (Player::new(5, 0), Server::default(), schedule());
        let mut now_ms = 1_000;
        let mut shaken = 0u32;
        let mut settled = 0u32;
        let mut under_way: Option<(u32, u32)> = None;
        let mut on_its_way: Vec<(u64, u32, SubmitAnswer)> = Vec::new();
        let mut heard = HashSet::new();
        for (dice, net, pass_ms) in steps {
            now_ms += pass_ms;
            let shakes = u32::from(dice % 3);
            p.on_shake(shakes);
            shaken += shakes;
            if net == 0 {
                server.dies();
                p.on_disconnect(now_ms);
            }
            let drawn = p.drawn_shakes();
            let out = p.poll(now_ms, &schedule, &RULES);
            // Long behind its round a draw that nobody answers is given up; only a later round takes its place.
            if let Some((round, _)) = under_way.filter(|open| p.draw() != Some(*open)) {
                prop_assert!(p.draw().is_none_or(|(next, _)| next > round), "{under_way:?}, then {:?}", p.draw());
                settled += drawn;
                under_way = None;
            }
            if let Some(out) = out {
                let id = (out.submit.round, out.submit.counter);
                prop_assert!(under_way.is_none_or(|open| open == id), "{under_way:?} is not answered, {id:?} is sent");
                prop_assert_eq!(under_way.is_some(), out.resend);
                under_way = Some(id);
                if net % 4 != 1 {
                    let said = server.answer(&out.submit, dice);
                    if net % 8 == 2 {
                        on_its_way.push((now_ms + u64::from(net) * 9, out.attempt, said.clone()));
                    }
                    if net % 8 != 3 {
                        on_its_way.push((now_ms + u64::from(net), out.attempt, said));
                    }
                }
            }
            let (come, later) = on_its_way.drain(..).partition(|(at, ..)| *at <= now_ms);
            on_its_way = later;
            for (_, attempt, said) in come {
                let drawn = p.drawn_shakes();
                match p.on_answer(now_ms, attempt, &said, &RULES) {
                    Heard::Won { .. } => prop_assert!(heard.insert(said.award.clone().unwrap().award), "told twice"),
                    Heard::KnownWin => prop_assert!(heard.contains(&said.award.clone().unwrap().award)),
                    _ => {}
                }
                if p.draw().is_none() && under_way.is_some() {
                    let back = said.outcome() == Outcome::TooEarly;
                    settled += if back { 0 } else { drawn };
                    under_way = None;
                }
            }
            prop_assert_eq!(p.draw(), under_way);
            prop_assert_eq!(shaken, settled + p.drawn_shakes() + p.waiting_shakes());
        }
    }
}
