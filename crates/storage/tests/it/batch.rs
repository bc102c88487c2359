use proptest::prelude::*;
use storage::batch::{signed, unsigned};
use storage::{Batch, BatchFull, ROWS_MAX, RowStatement, sqlx};

use crate::open;

type Row = (i64, Option<i64>, String, Vec<u8>);

async fn round_trip(rows: &[Row]) -> Vec<Row> {
    let (_folder, sql) = open().await;
    let mut batch = Batch::new(1000, 1 << 20);
    for (id, maybe, text, bytes) in rows {
        batch
            .row(|row| {
                row.int(*id).int_or_null(*maybe).text(text).bytes(bytes);
            })
            .unwrap();
    }
    assert_eq!(batch.len(), rows.len());
    let mut write = sql.write().await.unwrap();
    sqlx::raw_sql("CREATE TABLE t (at INTEGER PRIMARY KEY, id BIGINT, maybe BIGINT, note TEXT, body BLOB)")
        .execute(&mut *write)
        .await
        .unwrap();
    sqlx::query(
        "INSERT INTO t (at, id, maybe, note, body)
         SELECT key, value->>0, value->>1, value->>2, unhex(value->>3) FROM json_each($1)",
    )
    .bind(batch.to_json())
    .execute(&mut *write)
    .await
    .unwrap();
    write.commit().await.unwrap();
    sqlx::query_as("SELECT id, maybe, note, body FROM t ORDER BY at").fetch_all(sql.readers()).await.unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    /// SQL text ends at NUL in places, so text with NUL is left to the blob column.
    #[test]
    fn rows_come_back_as_they_were(
        rows in prop::collection::vec(
            (any::<i64>(), any::<Option<i64>>(), "[^\0]{0,20}", prop::collection::vec(any::<u8>(), 0..20)),
            0..20,
        )
    ) {
        let back = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(round_trip(&rows));
        prop_assert_eq!(back, rows);
    }

    #[test]
    fn ids_keep_their_bits(id: u64) {
        prop_assert_eq!(unsigned(signed(id)), id);
    }
}

#[test]
fn a_batch_has_a_bound_in_rows_and_bytes() {
    let mut batch = Batch::new(2, 1 << 20);
    for id in 0..2 {
        batch
            .row(|row| {
                row.int(id);
            })
            .unwrap();
    }
    assert_eq!(
        batch.row(|row| {
            row.int(2);
        }),
        Err(BatchFull { rows: 2, bytes: 8 })
    );
    assert_eq!(batch.to_json(), "[[0],[1]]");
    batch.clear();
    assert!(batch.is_empty());
    assert_eq!(batch.to_json(), "[]");

    let mut small = Batch::new(100, 10);
    small
        .row(|row| {
            row.text("0123456789");
        })
        .unwrap();
    assert!(
        small
            .row(|row| {
                row.int(1);
            })
            .is_err()
    );
}

static PUT: RowStatement =
    RowStatement::new("INSERT INTO t (id, note) VALUES ", "(?, ?)", " ON CONFLICT DO NOTHING RETURNING id");

#[tokio::test]
async fn any_number_of_rows_goes_through_a_row_statement_once() {
    let (_folder, sql) = open().await;
    let mut write = sql.write().await.unwrap();
    let create = "CREATE TABLE t (id INTEGER PRIMARY KEY, note BLOB NOT NULL)";
    sqlx::raw_sql(create).execute(&mut *write).await.unwrap();
    let mut first = 0;
    for count in [0, 1, 2, 3, 7, ROWS_MAX - 1, ROWS_MAX, ROWS_MAX + 1, 3 * ROWS_MAX + 100] {
        let rows: Vec<i64> = (first..first + count as i64).collect();
        let bind = |query: storage::RowQuery, index: usize, id: &i64| {
            assert_eq!(rows[index], *id);
            query.bind(*id).bind(id.to_be_bytes().to_vec())
        };
        let returned = PUT.fetch(&mut write, &rows, bind).await.unwrap();
        assert_eq!(returned.len(), count);
        assert_eq!(PUT.execute(&mut write, &rows, bind).await.unwrap(), 0, "all are there");
        first += count as i64;
    }
    let stored: Vec<(i64, Vec<u8>)> =
        sqlx::query_as("SELECT id, note FROM t ORDER BY id").fetch_all(&mut *write).await.unwrap();
    assert_eq!(stored.len() as i64, first);
    assert!((0..).zip(stored).all(|(id, row)| row == (id, id.to_be_bytes().to_vec())));
}
