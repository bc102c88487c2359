//! The same books give the same bytes, with little memory too; the lists hold what the settlement counted.

use crate::world::World;
use reconcile::{report, run};

#[tokio::test]
async fn running_again_changes_nothing_and_memory_does_not_grow() {
    let mut world = World::perfect(3_000, 1_000);
    for i in 0..40 {
        let award = world.awards[i * 50].clone();
        if i % 2 == 0 { world.unpay(&award) } else { world.steps.retain(|s| s.award != award.id) }
    }
    let folder = tempfile::tempdir().unwrap();
    let mut inputs = world.write(folder.path()).await;
    let out = inputs.out_dir.clone().unwrap();
    let mut runs = Vec::new();
    let mut spilled = Vec::new();
    for memory in [64 << 20, 64 << 20, 200_000] {
        inputs.memory = memory;
        let settlement = run(&inputs).await.unwrap();
        spilled.push((settlement.read.runs, settlement.read.resident_max));
        let lists = ["breaks.csv", "redo.csv"].map(|name| std::fs::read_to_string(out.join(name)).unwrap());
        runs.push((report::json(&settlement), report::html(&settlement), lists, settlement.break_count()));
        assert_eq!(std::fs::read_dir(&inputs.work_dir).unwrap().count(), 0, "run files are gone");
    }
    assert!(runs[0] == runs[1] && runs[0] == runs[2]);
    assert_eq!(spilled[0].0, 0, "everything fits");
    assert!(spilled[2].0 > 50 && spilled[2].1 < 40_000, "little memory spills and stays little: {spilled:?}");
    let (_, _, [breaks, redo], count) = &runs[0];
    assert_eq!(breaks.lines().count() as u64, count + 1);
    // 20 payments that are missing, and 20 awards without an order.
    assert_eq!(redo.lines().filter(|l| l.contains(",missing_at_vendor,")).count(), 20);
    assert_eq!(redo.lines().filter(|l| l.contains(",order_missing,")).count(), 20);
    assert!(breaks.lines().nth(1).unwrap().contains("operator on duty"));
}
