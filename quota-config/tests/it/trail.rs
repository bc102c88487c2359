//! The audit trail: whatever is changed in it is found.

use crate::repository::open;
use crate::support::{EVENING_MS, SMALL, draft};
use campaign::{CampaignId, SeqNo};
use proptest::prelude::*;
use quota_config::audit::{Verifier, verify, verify_all};
use quota_config::{Adjustments, AuditEntry, AuditHead, AuditRow, Draft, PlanRepository, Role};
use storage::sqlx;
use storage::{Sql, SqlOptions};

fn entry(n: u64) -> AuditEntry {
    AuditEntry {
        at_ms: 1_000 + n,
        who: format!("person {}", n % 3),
        role: Role::Operator,
        action: "activate".into(),
        campaign: (!n.is_multiple_of(4)).then_some(CampaignId(7)),
        seq_no: (!n.is_multiple_of(5)).then_some(SeqNo(n)),
        detail: format!("{{\"n\":{n}}}"),
    }
}

fn trail(rows: u64) -> Vec<AuditRow> {
    let mut head = AuditHead::default();
    let next = |n| {
        let row = head.next(entry(n));
        head = row.head();
        row
    };
    (1..=rows).map(next).collect()
}

/// The first row that is wrong, if any is.
fn broken_at(rows: &[AuditRow], head: AuditHead) -> Option<u64> {
    let mut verifier = Verifier::default();
    for row in rows {
        if let Err(broken) = verifier.push(row) {
            return Some(broken.at);
        }
    }
    verifier.end(head).err().map(|broken| broken.at)
}

#[derive(Clone, Debug)]
enum Tampering {
    Time(u64),
    Who(String),
    Role,
    Action,
    Campaign(u32),
    SeqNo(u64),
    Detail(usize, u8),
    Prev(usize, u8),
    Hash(usize, u8),
    Remove,
    Swap,
    Repeat,
}

fn tampering() -> impl Strategy<Value = Tampering> {
    prop_oneof![
        any::<u64>().prop_map(Tampering::Time),
        "[a-z]{0,4}".prop_map(Tampering::Who),
        Just(Tampering::Role),
        Just(Tampering::Action),
        any::<u32>().prop_map(Tampering::Campaign),
        any::<u64>().prop_map(Tampering::SeqNo),
        (any::<prop::sample::Index>(), 0..7u8).prop_map(|(i, bit)| Tampering::Detail(i.index(7), bit)),
        (0..32usize, 0..8u8).prop_map(|(i, bit)| Tampering::Prev(i, bit)),
        (0..32usize, 0..8u8).prop_map(|(i, bit)| Tampering::Hash(i, bit)),
        Just(Tampering::Remove),
        Just(Tampering::Swap),
        Just(Tampering::Repeat),
    ]
}

proptest! {
    #[test]
    fn any_single_change_is_found_at_its_row(
        count in 2..40u64, which in any::<prop::sample::Index>(), how in tampering()
    ) {
        let good = trail(count);
        let head = good[good.len() - 1].head();
        prop_assert_eq!(broken_at(&good, head), None);
        let i = which.index(good.len());
        let mut rows = good.clone();
        match how {
            Tampering::Time(ms) => rows[i].at_ms = ms,
            Tampering::Who(who) => rows[i].who = who,
            Tampering::Role => rows[i].role = "admin".into(),
            Tampering::Action => rows[i].action.push('x'),
            Tampering::Campaign(n) => rows[i].campaign = Some(CampaignId(n)).filter(|c| c.0 > 0),
            Tampering::SeqNo(n) => rows[i].seq_no = Some(SeqNo(n)).filter(|s| s.0 > 0),
            Tampering::Detail(at, bit) => {
                let mut bytes = rows[i].detail.clone().into_bytes();
                bytes[at] ^= 1 << bit;
                rows[i].detail = String::from_utf8(bytes).unwrap_or_default();
            }
            Tampering::Prev(at, bit) => rows[i].prev[at] ^= 1 << bit,
            Tampering::Hash(at, bit) => rows[i].sha256[at] ^= 1 << bit,
            Tampering::Remove => { rows.remove(i); }
            Tampering::Swap => { let j = (i + 1) % rows.len(); rows.swap(i, j); }
            Tampering::Repeat => { let row = rows[i].clone(); rows.insert(i + 1, row); }
        }
        let changed = (0..rows.len().max(good.len())).find(|i| rows.get(*i) != good.get(*i));
        prop_assert_eq!(broken_at(&rows, head), changed.map(|i| i as u64 + 1));
    }
}

#[tokio::test]
async fn what_is_edited_in_the_database_is_found() {
    let edits = [
        ("UPDATE plan_audit SET who = 'nobody' WHERE n = 601", 601),
        ("UPDATE plan_audit SET at_ms = 'late' WHERE n = 602", 602),
        ("UPDATE plan_audit SET sha256 = x'00' WHERE n = 3", 3),
        ("UPDATE plan_audit SET n = 9000 WHERE n = 17", 17),
        ("DELETE FROM plan_audit WHERE n = 1", 1),
        ("DELETE FROM plan_audit WHERE n = 1203", 1203),
        ("DELETE FROM plan_audit", 1),
        ("UPDATE plan_audit_head SET n = 1202", 1203),
        (
            "UPDATE plan_audit_head SET sha256 = x'0000000000000000000000000000000000000000000000000000000000000000'",
            1203,
        ),
    ];
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("plans.db");
    let repository = open(&path).await;
    // Put in at once: the rows are the same as one by one.
    let rows = trail(1203);
    let sql = Sql::open(&path, SqlOptions::patient()).await.unwrap();
    let mut write = sql.write().await.unwrap();
    for row in &rows[..1202] {
        sqlx::query("INSERT INTO plan_audit VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)")
            .bind(row.n.cast_signed())
            .bind(row.at_ms.cast_signed())
            .bind(&row.who)
            .bind(&row.role)
            .bind(&row.action)
            .bind(row.campaign.map_or(0, |c| i64::from(c.0)))
            .bind(row.seq_no.map_or(0, |s| s.0.cast_signed()))
            .bind(&row.detail)
            .bind(&row.prev[..])
            .bind(&row.sha256[..])
            .execute(&mut *write)
            .await
            .unwrap();
    }
    let head = sqlx::query("INSERT INTO plan_audit_head VALUES (1, 1202, $1)").bind(&rows[1201].sha256[..]);
    head.execute(&mut *write).await.unwrap();
    write.commit().await.unwrap();
    assert_eq!(repository.audit_append(entry(1203)).await.unwrap(), 1203);
    sql.close().await;
    let good = verify(&repository, None).await.unwrap();
    assert_eq!((good.ok, good.rows, good.head), (true, 1203, rows[1202].sha256));
    drop(repository);
    for (edit, at) in edits {
        let copy = folder.path().join("copy.db");
        for name in ["copy.db-wal", "copy.db-shm"] {
            let _ = std::fs::remove_file(folder.path().join(name));
        }
        backup(&path, &copy).await;
        let sql = Sql::open(&copy, SqlOptions::patient()).await.unwrap();
        let mut write = sql.write().await.unwrap();
        sqlx::query(edit).execute(&mut *write).await.unwrap();
        write.commit().await.unwrap();
        sql.close().await;
        let found = verify(&open(&copy).await, None).await.unwrap();
        assert_eq!((found.ok, found.broken_at), (false, Some(at)), "{edit}: {:?}", found.why);
    }
}

async fn backup(from: &std::path::Path, to: &std::path::Path) {
    let _ = std::fs::remove_file(to);
    let sql = Sql::open(from, SqlOptions::patient()).await.unwrap();
    // The last one to close moves the write-ahead log into the file.
    sql.close().await;
    std::fs::copy(from, to).unwrap();
}

#[tokio::test]
async fn a_head_that_was_noted_elsewhere_uncovers_a_new_trail() {
    let repository = quota_config::MemoryRepository::new();
    for n in 1..=5 {
        repository.audit_append(entry(n)).await.unwrap();
    }
    let noted = AuditHead { n: 4, sha256: trail(4)[3].sha256 };
    assert!(verify(&repository, Some(noted)).await.unwrap().ok);
    let other = AuditHead { sha256: [1; 32], ..noted };
    assert_eq!(verify(&repository, Some(other)).await.unwrap().broken_at, Some(4));
    let beyond = AuditHead { n: 9, sha256: [1; 32] };
    assert_eq!(verify(&repository, Some(beyond)).await.unwrap().broken_at, Some(6));
}

#[test]
fn the_layout_is_frozen() {
    let row = AuditHead { n: 41, sha256: [9; 32] }.next(AuditEntry {
        at_ms: 1_771_243_200_000,
        who: "李雷".into(),
        role: Role::Approver,
        action: "activate".into(),
        campaign: Some(CampaignId(4)),
        seq_no: Some(SeqNo(12)),
        detail: "{}".into(),
    });
    let mut bytes = b"hongbao audit 1\n".to_vec();
    bytes.extend(42u64.to_le_bytes());
    bytes.extend([9; 32]);
    bytes.extend(1_771_243_200_000u64.to_le_bytes());
    bytes.extend(4u32.to_le_bytes());
    bytes.extend(12u64.to_le_bytes());
    for text in ["李雷", "approver", "activate", "{}"] {
        bytes.extend(u32::try_from(text.len()).unwrap().to_le_bytes());
        bytes.extend(text.as_bytes());
    }
    assert_eq!(row.sha256, <[u8; 32]>::from(<sha2::Sha256 as sha2::Digest>::digest(&bytes)));
}

#[tokio::test]
async fn a_version_that_was_edited_is_found_at_its_row() {
    let edits = [
        ("UPDATE plan_version SET author = 'nobody' WHERE seq_no = 2", "has author \"nobody\""),
        ("UPDATE plan_version SET adjustments = '{}' WHERE seq_no = 2", "has adjustments_sha256"),
        ("UPDATE plan_version SET approvals = '[]', base_ms = base_ms + 1 WHERE seq_no = 1", "has base_ms"),
        ("UPDATE plan_version SET source = x'00' WHERE seq_no = 1", "is damaged"),
        ("UPDATE plan_version SET state = 'reserved' WHERE seq_no = 2", "is reserved; row 4 says active"),
        ("DELETE FROM plan_version WHERE seq_no = 2", "is not stored any more"),
        (
            "INSERT INTO plan_version SELECT campaign, 3, after_seq, kind, of_seq, base_ms, source, sha256, adjustments, \
             commitments, author, role, reason, at_ms, proposal, approvals, summary, state, rollout FROM plan_version \
             WHERE seq_no = 2",
            "no row reserved it",
        ),
    ];
    for (edit, why) in edits {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("plans.db");
        let repository = open(&path).await;
        for (after, adjustments) in [(0, "{}"), (1, "{\"paused\":[\"campaign\"]}")] {
            let adjustments = Adjustments::from_json(adjustments).unwrap();
            let draft = Draft { adjustments, ..draft(4, after, SMALL) };
            let seq_no = repository.reserve(draft).await.unwrap();
            repository.activate(CampaignId(4), seq_no, EVENING_MS).await.unwrap();
        }
        let good = verify_all(&repository, None).await.unwrap();
        assert_eq!((good.ok, good.versions, good.before_trail), (true, 2, 0), "{good:?}");
        let sql = Sql::open(&path, SqlOptions::patient()).await.unwrap();
        let mut write = sql.write().await.unwrap();
        sqlx::query(edit).execute(&mut *write).await.unwrap();
        write.commit().await.unwrap();
        let found = verify_all(&repository, None).await.unwrap();
        assert!(!found.ok, "{edit}");
        assert!(found.why.as_ref().unwrap().contains(why), "{edit}: {found:?}");
    }
}
