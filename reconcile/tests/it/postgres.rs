//! The same world in SQLite and in PostgreSQL settles alike, to the byte. Against a real server.

use crate::world::{NOW, World, execute, seed_key};
use campaign::CampaignId;
use quota_config::{MemoryRepository, PlanRepository as _, Publisher, publish_file};
use reconcile::readers::tables::{Tables, read_awards, read_journal, read_plans};
use reconcile::{Inputs, TableSource, plans_in, report, run};
use std::path::Path;
use testkit::servers::FreshDatabase;

/// A world in which something is wrong with every source of tables, larger than a page.
fn world() -> World {
    let mut world = World::perfect(2_500, 300);
    for i in 0..30 {
        let award = world.awards[i * 70].clone();
        match i % 3 {
            0 => world.unpay(&award),
            1 => world.set_state(&award, 1 + (i % 11) as u8),
            _ => world.steps.retain(|s| s.award != award.id),
        }
    }
    world.ledger.prizes[0].used = 1;
    world
}

/// Everything that a settlement writes.
async fn written(mut inputs: Inputs) -> [String; 6] {
    inputs.replicated = Some(true);
    let settlement = run(&inputs).await.unwrap();
    assert!(settlement.break_count() > 20 && settlement.read.steps > 5_000);
    let list = |name| std::fs::read_to_string(inputs.out_dir.as_ref().unwrap().join(name)).unwrap();
    [
        report::json(&settlement),
        report::text(&settlement),
        report::html(&settlement),
        report::csv::prizes_csv(&settlement),
        list("breaks.csv"),
        list("redo.csv"),
    ]
}

fn source(database: &FreshDatabase) -> TableSource {
    TableSource::Postgres(database.url().to_owned())
}

async fn in_postgres(world: &World, folder: &Path, database: &FreshDatabase) -> Inputs {
    world.write_with(folder, source(database), source(database)).await
}

#[tokio::test]
async fn both_databases_settle_alike_to_the_byte() {
    let Some(database) = FreshDatabase::new() else { return };
    let world = world();
    let [one, other] = [(); 2].map(|()| tempfile::tempdir().unwrap());
    let sqlite = written(world.write(one.path()).await).await;
    let postgres = written(in_postgres(&world, other.path(), &database).await).await;
    assert!(sqlite == postgres);
}

#[tokio::test]
async fn a_line_that_is_missing_is_refused_with_its_shard_and_no_password() {
    let Some(database) = FreshDatabase::new() else { return };
    let folder = tempfile::tempdir().unwrap();
    let inputs = in_postgres(&World::perfect(12, 6), folder.path(), &database).await;
    let delete = "DELETE FROM delivery_journal WHERE shard = 2 AND position = 4".to_owned();
    execute(&source(&database), &[delete]).await;
    let error = run(&inputs).await.unwrap_err().to_string();
    assert!(error.contains("position 4 is missing") && error.contains("shard 2"), "{error}");
    assert!(error.starts_with("PostgreSQL ") && !error.contains("postgres://"), "{error}");
    let end = "DELETE FROM delivery_journal WHERE shard = 2 AND position > 3".to_owned();
    execute(&source(&database), &[end]).await;
    let error = run(&inputs).await.unwrap_err().to_string();
    assert!(error.contains("shard 2 of delivery_shard: it says") && error.contains("there are 3"), "{error}");
}

#[tokio::test]
async fn what_is_written_meanwhile_is_not_of_the_snapshot() {
    let Some(database) = FreshDatabase::new() else { return };
    let folder = tempfile::tempdir().unwrap();
    let world = World::perfect(12, 6);
    in_postgres(&world, folder.path(), &database).await;
    let mut tables = Tables::open(&source(&database)).await.unwrap();
    let before = read_journal(&mut tables, &mut |_| Ok(())).await.unwrap();
    let copy = "INSERT INTO delivery_journal SELECT shard, position + 1000, award, step, state, generation, attempt, \
                at_ms, due_ms, vendor, user_id, campaign, round, prize, fen, reason, note FROM delivery_journal";
    execute(&source(&database), &[copy.to_owned()]).await;
    let again = read_journal(&mut tables, &mut |_| Ok(())).await.unwrap();
    assert_eq!((before, again), (world.steps.len() as u64, before));
    tables.close().await;
}

#[tokio::test]
async fn the_award_store_is_read_in_pages() {
    let Some(database) = FreshDatabase::new() else { return };
    let world = World::perfect(6_000, 2);
    let mut statements =
        vec!["CREATE TABLE flow_award (won BYTEA); INSERT INTO flow_award VALUES (NULL)".to_owned()];
    for award in &world.awards {
        let won: String = crate::world::won(award).iter().map(|b| format!("{b:02x}")).collect();
        statements.push(format!("INSERT INTO flow_award VALUES ('\\x{won}')"));
    }
    execute(&source(&database), &statements).await;
    let mut tables = Tables::open(&source(&database)).await.unwrap();
    let mut fen = 0;
    let sum = &mut |won: reconcile::readers::archive::bytes::Won| {
        fen += won.facts.fen.0;
        Ok(())
    };
    let count = read_awards(&mut tables, sum).await.unwrap();
    tables.close().await;
    assert_eq!((count, fen), (6_000, world.awards.iter().map(|a| a.fen).sum::<i64>()));
    execute(&source(&database), &["UPDATE flow_award SET won = '\\x0102'".to_owned()]).await;
    let mut tables = Tables::open(&source(&database)).await.unwrap();
    let error = read_awards(&mut tables, &mut |_| Ok(())).await.unwrap_err().to_string();
    assert!(error.contains("of award: `won`"), "{error}");
}

#[tokio::test]
async fn plans_are_those_of_the_repository() {
    let Some(database) = FreshDatabase::new() else { return };
    let file = include_str!("../../../quota-config/campaigns/tour.yaml");
    let repository = MemoryRepository::new();
    // More than a page.
    for n in 0..20 {
        let publisher = Publisher { author: "ann".into(), reason: "test".into(), now_ms: NOW + n };
        let text = format!("{file}# {n}\n");
        publish_file(&repository, text.as_bytes(), &publisher, &seed_key()).await.unwrap();
    }
    let plans = plans_in(&repository).await.unwrap();
    assert_eq!(plans.len(), 20);
    let hex = |bytes: &[u8]| bytes.iter().map(|b| format!("{b:02x}")).collect::<String>();
    let table = "CREATE TABLE plan_version (campaign BIGINT, seq_no BIGINT, base_ms BIGINT, source BYTEA, sha256 BYTEA, \
                 adjustments TEXT, commitments BYTEA, state TEXT)";
    let mut statements = vec![table.to_owned()];
    let CampaignId(campaign) = plans[0].campaign;
    for plan in plans.iter().rev() {
        let version = repository.get(plan.campaign, plan.seq_no).await.unwrap().unwrap();
        statements.push(format!(
            "INSERT INTO plan_version VALUES ({campaign}, {}, {}, '\\x{}', '\\x{}', '{}', '\\x{}', 'active')",
            plan.seq_no,
            version.info.base_ms,
            hex(&version.source),
            hex(&version.info.sha256),
            version.adjustments.to_json(),
            hex(&version.commitments.to_bytes())
        ));
    }
    statements
        .push(format!("INSERT INTO plan_version VALUES ({campaign}, 21, 0, '', '', '', '', 'withdrawn')"));
    execute(&source(&database), &statements).await;
    let mut tables = Tables::open(&source(&database)).await.unwrap();
    assert!(read_plans(&mut tables).await.unwrap() == plans);
    tables.close().await;
    let damage = "UPDATE plan_version SET source = '\\x00' WHERE seq_no = 5".to_owned();
    execute(&source(&database), &[damage]).await;
    let mut tables = Tables::open(&source(&database)).await.unwrap();
    let error = read_plans(&mut tables).await.unwrap_err().to_string();
    assert!(error.contains("SeqNo 5 of plan_version: its source"), "{error}");
}

#[tokio::test]
async fn a_server_that_is_away_and_a_url_that_is_none_are_named_without_the_password() {
    let away = TableSource::Postgres("postgres://ann:s3cret@127.0.0.1:1/books".into());
    let Err(error) = Tables::open(&away).await else { panic!("nobody listens there") };
    let text = error.to_string();
    assert!(text.contains("127.0.0.1:1") && !text.contains("s3cret"), "{text}");
    let none = TableSource::Postgres("postgres://ann:s3cret@h:99999/books".into());
    let Err(error) = Tables::open(&none).await else { panic!("that is no URL") };
    let text = error.to_string();
    assert!(text.contains("postgres://USER:PASSWORD@HOST") && !text.contains("s3cret"), "{text}");
}
