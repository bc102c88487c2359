//! What players were told, held against the award store: law 2 from the side of who reads prizes back.

use std::collections::HashMap;
use std::path::Path;

use campaign::{AwardFacts, AwardId};
use reconcile::TableSource;
use reconcile::readers::players;
use reconcile::readers::tables::{self, Tables};
use reconcile::rows::ToldRow;

/// Awards that are held in memory, at most.
const TOLD_MAX: usize = 5_000_000;
/// Differences that are named; the rest is counted.
const NAMED_MAX: usize = 5;

/// The comparison.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(super) struct ToldCheck {
    /// Different awards that players were told.
    pub told: u64,
    /// Awards in the store.
    pub stored: u64,
    /// Told, and not in the store.
    pub missing: u64,
    /// Told otherwise than stored.
    pub differing: u64,
    /// Stored, and told to nobody: the answer was lost and its player did not ask again.
    pub untold: u64,
    /// Some of what is wrong.
    pub named: Vec<String>,
}

impl ToldCheck {
    /// Everything that was told is in the store as told.
    pub fn holds(&self) -> bool {
        self.missing == 0 && self.differing == 0
    }

    /// For people.
    pub fn text(&self) -> String {
        let ToldCheck { told, stored, missing, differing, untold, named } = self;
        if self.holds() {
            return format!(
                "{told} different awards told to players, each in the award store as told; of {stored} stored, {untold} were told to nobody"
            );
        }
        format!(
            "{told} awards told to players: {missing} not in the award store, {differing} stored otherwise ({})",
            named.join("; ")
        )
    }

    fn name(&mut self, what: String) {
        if self.named.len() < NAMED_MAX {
            self.named.push(what);
        }
    }

    /// Compares one award of the store, and forgets it in what was told.
    fn stored(&mut self, facts: &AwardFacts, told: &mut HashMap<AwardId, ToldRow>) {
        self.stored += 1;
        let Some(row) = told.remove(&facts.id) else {
            self.untold += 1;
            return;
        };
        let same = (row.user, row.campaign, row.round, row.prize, row.fen)
            == (facts.user, facts.campaign, facts.round, facts.prize, facts.fen);
        if !same {
            self.differing += 1;
            self.name(format!(
                "{}: told user {} prize {} {} yuan, stored user {} prize {} {} yuan",
                facts.id, row.user, row.prize, row.fen, facts.user, facts.prize, facts.fen
            ));
        }
    }
}

/// Compares the file of what was told with the award store.
///
/// # Errors
/// When one of them can't be read.
pub(super) async fn compare(told: &Path, store: &TableSource) -> anyhow::Result<ToldCheck> {
    let mut left: HashMap<AwardId, ToldRow> = HashMap::new();
    let mut check = ToldCheck::default();
    let mut twice = Vec::new();
    players::read_told(told, &mut |row| {
        if left.len() >= TOLD_MAX {
            return Err(std::io::Error::other(format!("more than {TOLD_MAX} awards")));
        }
        let same = left.get(&row.award).is_none_or(|known| *known == row);
        if !same && twice.len() < NAMED_MAX {
            twice.push(row.award);
        }
        left.entry(row.award).or_insert(row);
        Ok(())
    })?;
    check.told = left.len() as u64;
    for award in twice {
        check.differing += 1;
        check.name(format!("{award}: told twice, differently"));
    }
    let mut tables = Tables::open(store).await?;
    let read = tables::read_awards(&mut tables, &mut |won| {
        check.stored(&won.facts, &mut left);
        Ok(())
    })
    .await;
    tables.close().await;
    read?;
    check.missing = left.len() as u64;
    let mut lost: Vec<AwardId> = left.into_keys().collect();
    lost.sort();
    for award in lost.into_iter().take(NAMED_MAX) {
        check.name(format!("{award}: not in the store"));
    }
    Ok(check)
}

#[cfg(test)]
mod tests {
    use super::compare;
    use campaign::{AwardId, Fen, LeaseId, MacKey, NodeEpoch, NodeId, SeqNo};
    use reconcile::TableSource;
    use records::{Record as _, Won};
    use storage::{Sql, SqlOptions, sqlx};

    fn won(sequence: u64, fen: i64) -> Won {
        let award = AwardId::new(1_000, NodeId(1), NodeEpoch(1), sequence);
        let mut won = Won {
            award,
            campaign: 1.into(),
            round: 2.into(),
            day: 3,
            user: (10 + sequence).into(),
            counter: 1,
            try_no: 1,
            district: 0,
            prize: 4.into(),
            unit: sequence,
            fen: Fen(fen),
            lease: LeaseId(1),
            seq_no: SeqNo(1),
            held: 0,
            time_ms: 1_000,
            shakes: 1,
            mac_key: 1,
            mac: [0; 16],
        };
        won.mac = MacKey { id: 1, key: [1; 32] }.mac(&won.facts());
        won
    }

    #[tokio::test]
    async fn differences_are_found_in_both_directions() {
        let dir = tempfile::tempdir().unwrap();
        let (told, store) = (dir.path().join("told.csv"), dir.path().join("flow.db"));
        let sql = Sql::open(&store, SqlOptions::patient()).await.unwrap();
        let mut write = sql.write().await.unwrap();
        sqlx::query("CREATE TABLE award (seq INTEGER PRIMARY KEY, won BLOB NOT NULL)")
            .execute(&mut *write)
            .await
            .unwrap();
        for n in 0..3 {
            let bytes = won(n, 100).encode();
            sqlx::query("INSERT INTO award (won) VALUES ($1)")
                .bind(bytes)
                .execute(&mut *write)
                .await
                .unwrap();
        }
        write.commit().await.unwrap();
        sql.close().await;
        let store = TableSource::Sqlite(store);

        let line = |w: &Won| {
            let Won { award, user, campaign, round, prize, fen, .. } = w;
            format!("{award},{user},{campaign},{round},{prize},{}\n", fen.0)
        };
        let write_told = |rows: &[Won]| {
            let text: String = rows.iter().map(line).collect();
            std::fs::write(&told, format!("award,user,campaign,round,prize,fen\n{text}")).unwrap();
        };
        write_told(&[won(0, 100), won(1, 100), won(1, 100)]);
        let check = compare(&told, &store).await.unwrap();
        assert!(check.holds(), "{}", check.text());
        assert_eq!((check.told, check.stored, check.untold), (2, 3, 1));

        write_told(&[won(0, 100), won(1, 101), won(9, 100)]);
        let check = compare(&told, &store).await.unwrap();
        assert_eq!((check.missing, check.differing, check.holds()), (1, 1, false));
        assert!(check.text().contains("not in the store"), "{}", check.text());
    }
}
