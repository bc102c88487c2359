//! What a new version may not change of the one before.

use crate::support::{EVENING_MS, KEY, SMALL, publisher};
use campaign::{SeedKey, SeqNo};
use quota_config::{
    After, CompileOptions, MemoryRepository, PlanRepository, PublishError, StoredCommitments, compile,
    publish_file,
};

/// What is said about SMALL with a part replaced, when SMALL was published so long ago.
fn change(from: &str, to: &str, since_ms: u64) -> String {
    assert!(SMALL.contains(from), "{from}");
    let options = CompileOptions { seq_no: SeqNo(1), base_ms: EVENING_MS, seeds: &KEY, after: None };
    let plan = compile(SMALL.as_bytes(), &options).unwrap().plan;
    let commitments = StoredCommitments::of(&plan);
    let after =
        Some(After { plan: &plan, commitments: &commitments, gone: &[], now_ms: EVENING_MS + since_ms });
    let next = CompileOptions { seq_no: SeqNo(2), after, ..options };
    match compile(SMALL.replacen(from, to, 1).as_bytes(), &next) {
        Ok(compiled) => compiled.warnings_text(),
        Err(problems) => problems.to_string(),
    }
}

const SECOND: &str = "  - {id: 2, name: Two, open: +5m, duration: 1m, prizes: cash}\n";
const FIRST: &str = "  - {id: 1, name: One, open: +0s, duration: 1m, prizes: cash}\n";

#[test]
fn planned_units_are_never_edited() {
    let said = change("units: 100", "units: 101", 30_000);
    let what = "8:7: error: prize_sets.cash[0]: prize 1 of round 1: units or amounts that were planned before are changed; \
                keep them and raise with a further entry under `tranches`; lowering is a command, not an edit";
    assert!(said.starts_with(what), "{said}");
    assert_eq!(change("max: 20", "max: 20\n      tranches: [{units: 50, each: 2}]", 30_000), "");
    let said = change("max: 20", "max: 20\n      tranches: [{units: 50, each: 2}]", 90_000);
    assert!(said.contains("prize 1 of round 1: the round is over, its budget can't be raised"), "{said}");
    assert_eq!(change("weight: 1", "weight: 5", 30_000), "");
    assert!(change("kind: cash\n      weight: 1\n      vendor: 1\n      units: 100\n      sum: 400\n      min: 0.50\n      max: 20",
        "kind: goods\n      weight: 1\n      vendor: 1\n      units: 100", 30_000).contains("was cash and becomes goods"));
}

#[test]
fn what_has_begun_stays() {
    let said = change(FIRST, "", 0);
    assert_eq!(
        said,
        "18:3: error: rounds: round 1 has begun and is missing; put it back as it is in SeqNo 1"
    );
    assert_eq!(change(SECOND, "", 30_000), "");
    assert!(change(SECOND, "", 300_000).contains("round 2 has begun and is missing"));
    assert!(change("open: +0s", "open: +1s", 30_000).contains("round 1 has begun: its opening can't move"));
    assert_eq!(change("open: +5m", "open: +6m", 30_000), "");
    assert!(change("open: +5m", "open: +2m", 150_000).contains("round 2 would have opened already"));
    assert_eq!(change("duration: 1m", "duration: 2m", 30_000), "");
    assert!(change("duration: 1m", "duration: 2m", 90_000).contains("round 1 is over"));
    assert!(change("duration: 1m", "duration: 20s", 30_000).contains("round 1 would be over already"));
    assert!(change("Asia/Shanghai", "Asia/Tokyo", 30_000).contains("the time zone was Asia/Shanghai"));
    assert!(
        change(SECOND, "  - {id: 3, name: Three, open: +2m, duration: 1m, prizes: cash}\n", 150_000)
            .contains("round 3 is new and would have opened already")
    );
    assert!(
        change("    - id: 1\n      name: Cash", "    - id: 5\n      name: Cash", 30_000)
            .contains("prize 1 of round 1 is missing, and the round has begun")
    );
}

#[tokio::test]
async fn start_and_commitments_stay_with_the_first_version() {
    let repository = MemoryRepository::new();
    let first = publish_file(&repository, SMALL.as_bytes(), &publisher(EVENING_MS), &KEY).await.unwrap();
    assert_eq!((first.seq_no, first.changed), (SeqNo(1), true));
    let again = publish_file(&repository, SMALL.as_bytes(), &publisher(EVENING_MS + 9), &KEY).await.unwrap();
    assert_eq!((again.seq_no, again.changed), (SeqNo(1), false));

    // A minute and a half later, with a new seed key: a round more.
    let new_key = SeedKey { id: 8, key: [1; 32] };
    let more = format!("{SMALL}  - {{id: 3, name: Three, open: +9m, duration: 1m, prizes: cash}}\n");
    let second =
        publish_file(&repository, more.as_bytes(), &publisher(EVENING_MS + 90_000), &new_key).await.unwrap();
    assert_eq!(second.seq_no, SeqNo(2));
    let compiled = |version: Option<quota_config::Version>| {
        quota_config::compile_version(&version.unwrap()).unwrap().plan
    };
    let one = compiled(repository.get(first.campaign, SeqNo(1)).await.unwrap());
    let two = compiled(repository.newest(first.campaign).await.unwrap());
    assert_eq!(one.rounds[..], two.rounds[..2]);
    assert_eq!(two.rounds.iter().map(|r| r.seed_key_id).collect::<Vec<_>>(), [7, 7, 8]);
    assert_eq!(two.rounds[2].open_ms, EVENING_MS + 540_000);

    // Back to the first file: round 3 has not begun and may go.
    let third =
        publish_file(&repository, SMALL.as_bytes(), &publisher(EVENING_MS + 91_000), &new_key).await.unwrap();
    assert_eq!((third.seq_no, third.changed), (SeqNo(3), true));
    let bad = SMALL.replace("units: 100", "units: 90");
    let refused = publish_file(&repository, bad.as_bytes(), &publisher(EVENING_MS + 92_000), &KEY).await;
    assert!(matches!(refused, Err(PublishError::File(_))));
    let nameless = publish_file(&repository, b"rounds: []", &publisher(EVENING_MS), &KEY).await.unwrap_err();
    assert!(nameless.to_string().contains("`campaign` is missing"));
    assert_eq!(repository.heads().await.unwrap(), [(first.campaign, SeqNo(3))]);
}

#[tokio::test]
async fn what_comes_back_is_what_it_was() {
    let repository = MemoryRepository::new();
    let put = async |text: &str, since_ms: u64, key: &SeedKey| {
        publish_file(&repository, text.as_bytes(), &publisher(EVENING_MS + since_ms), key).await
    };
    let without = SMALL.replace(SECOND, "");
    let new_key = SeedKey { id: 8, key: [1; 32] };
    put(SMALL, 0, &KEY).await.unwrap();
    put(&without, 10_000, &KEY).await.unwrap();
    put(&without.replace("name: Small", "name: Smaller"), 11_000, &new_key).await.unwrap();
    // Round 2 comes back with other units: the ledger and the log know its numbers.
    let second = SECOND.replace(
        "prizes: cash",
        "prizes: [{id: 1, name: P, kind: cash, weight: 1, vendor: 1, units: 5, each: 1}]",
    );
    let refused = put(&SMALL.replace(SECOND, &second), 12_000, &new_key).await.unwrap_err();
    assert!(
        refused
            .to_string()
            .contains("19:58: error: rounds[1].prizes[0]: prize 1 of round 2: units or amounts"),
        "{refused}"
    );
    // As it was, it comes back with the seed that was announced; a prize that never was may join.
    let more = SMALL
        .replace("max: 20", "max: 20\n    - {id: 2, name: Q, kind: goods, weight: 1, vendor: 1, units: 3}");
    assert_eq!(put(&more, 13_000, &new_key).await.unwrap().seq_no, SeqNo(4));
    let version = repository.newest(campaign::CampaignId(4)).await.unwrap().unwrap();
    let plan = quota_config::compile_version(&version).unwrap().plan;
    assert_eq!(
        plan.rounds.iter().map(|r| (r.seed_key_id, r.prizes.len())).collect::<Vec<_>>(),
        [(7, 2), (7, 2)]
    );
}
