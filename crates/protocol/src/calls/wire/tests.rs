use super::*;
use proptest::prelude::*;

fn call() -> impl Strategy<Value = SubmitCall> {
    (any::<u64>(), any::<[u32; 5]>()).prop_map(|(user, n)| SubmitCall {
        tag: 0,
        user,
        campaign: n[0],
        round: n[1],
        counter: n[2],
        shakes: n[3],
        district: n[4],
    })
}

fn reply() -> impl Strategy<Value = SubmitReply> {
    let award = prop::option::weighted(0.2, "[a-z]{0,200}");
    (any::<[u64; 2]>(), any::<[u32; 2]>(), 1i32..=10, award).prop_map(|(wide, n, outcome, award)| {
        SubmitReply {
            tag: wide[0],
            user: 0,
            counter: 0,
            next_counter: n[0],
            outcome: Outcome::try_from(outcome).unwrap(),
            next_submit_ms: n[1],
            until_ms: wide[1],
            award: award.map(|prize_name| Box::new(Award { prize_name, fen: 7, ..Award::default() })),
        }
    })
}

fn read_all(bytes: &[u8]) -> Vec<ReplyRow> {
    let (mut rows, mut at) = (Vec::new(), 0);
    while let Some(((kind, id, body), used)) = next(&bytes[at..], CALL_FRAME_MAX).unwrap() {
        assert_eq!((kind, id), (CallKind::Replies, 0));
        read_replies(body, |row| rows.push(row)).unwrap();
        at += used;
    }
    assert_eq!(at, bytes.len());
    rows
}

#[test]
fn rows_are_as_long_as_the_protocol_says() {
    let mut out = Vec::new();
    put_submits(&mut out, 9, &[SubmitCall::default(); 3]);
    assert_eq!(out.len(), 9 + 3 * 36);
}

#[test]
fn many_replies_become_several_frames_and_none_is_lost() {
    let one = SubmitReply {
        tag: 0,
        user: 1,
        counter: 1,
        next_counter: 2,
        outcome: Outcome::Lost,
        next_submit_ms: 3,
        until_ms: 0,
        award: None,
    };
    let mut replies: Vec<_> = (0..20_000).map(|tag| SubmitReply { tag, ..one.clone() }).collect();
    let mut out = Vec::new();
    put_replies(&mut out, &mut replies);
    assert!(replies.is_empty());
    let rows = read_all(&out);
    assert_eq!(rows.len(), 20_000);
    assert!(rows.iter().enumerate().all(|(i, row)| row.mark == i as u64));
}

#[test]
fn an_outcome_that_nobody_knows_is_refused() {
    let body = v1::Replies { replies: vec![v1::Reply { outcome: 99, ..v1::Reply::default() }] };
    assert_eq!(read_replies(&body.encode_to_vec(), |_| ()), Err(RepliesError::Outcome(99)));
}

proptest! {
    #[test]
    fn submits_round_trip_and_are_what_the_generated_code_reads(calls in prop::collection::vec(call(), 0..40), id: u32) {
        let mut out = Vec::new();
        put_submits(&mut out, id, &calls);
        let ((kind, got, body), used) = next(&out, CALL_FRAME_MAX).unwrap().unwrap();
        prop_assert_eq!((kind, got, used), (CallKind::Submits, id, out.len()));
        let mut read = Vec::new();
        read_submits(got, body, &mut read).unwrap();
        let marked: Vec<_> = calls.iter().enumerate()
            .map(|(i, call)| SubmitCall { tag: u64::from(id) << 32 | i as u64, ..*call }).collect();
        prop_assert_eq!(&read, &marked);
        let generated = v1::Submits::decode(body).unwrap();
        prop_assert_eq!(generated.entries.len(), calls.len());
        // Written by the generated code (zeros left out), it is read alike.
        let mut read = Vec::new();
        read_submits(id, &generated.encode_to_vec(), &mut read).unwrap();
        prop_assert_eq!(&read, &marked);
    }

    #[test]
    fn replies_round_trip_and_are_what_the_generated_code_reads(replies in prop::collection::vec(reply(), 0..40)) {
        let mut out = Vec::new();
        put_replies(&mut out, &mut replies.clone());
        let rows = read_all(&out);
        let expected: Vec<_> = replies.iter().map(|reply| ReplyRow {
            mark: reply.tag,
            next_counter: reply.next_counter,
            next_submit_ms: reply.next_submit_ms,
            until_ms: reply.until_ms,
            outcome: reply.outcome,
            award: reply.award.clone(),
        }).collect();
        prop_assert_eq!(&rows, &expected);
        if let Some(((_, _, body), _)) = next(&out, CALL_FRAME_MAX).unwrap() {
            let generated = v1::Replies::decode(body).unwrap();
            let mut again = Vec::new();
            read_replies(&generated.encode_to_vec(), |row| again.push(row)).unwrap();
            prop_assert_eq!(&again, &expected);
        }
    }

    #[test]
    fn bytes_of_any_kind_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = next(&bytes, CALL_FRAME_MAX);
        let _ = read_submits(1, &bytes, &mut Vec::new());
        let _ = read_replies(&bytes, |_| ());
    }
}
