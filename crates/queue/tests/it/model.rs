//! Random sequences against a model: what each group of consumers must see next.

use crate::setup::{Adapter, Embedded, Memory, OnKafka, assigned, gather_within};
use proptest::prelude::*;
use queue::{Consumer, Position};
use std::collections::BTreeMap;

#[derive(Clone, Debug)]
enum Step {
    Produce {
        partition: u16,
        records: u8,
    },
    Poll {
        group: usize,
        records: usize,
    },
    /// Commits so many groups behind what is committed, if they were delivered.
    Commit {
        group: usize,
        partition: u16,
        by: u64,
    },
    Rewind {
        group: usize,
    },
    Leave {
        group: usize,
    },
    Restart,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        4 => (0u16..2, 1u8..4).prop_map(|(partition, records)| Step::Produce { partition, records }),
        4 => (0usize..2, 1usize..8).prop_map(|(group, records)| Step::Poll { group, records }),
        3 => (0usize..2, 0u16..2, 1u64..4).prop_map(|(group, partition, by)| Step::Commit { group, partition, by }),
        1 => (0usize..2).prop_map(|group| Step::Rewind { group }),
        1 => (0usize..2).prop_map(|group| Step::Leave { group }),
        1 => Just(Step::Restart),
    ];
    proptest::collection::vec(step, 1..40)
}

#[derive(Default)]
struct Model {
    /// Records of each group of records, by partition.
    log: BTreeMap<u16, Vec<Vec<Vec<u8>>>>,
    /// By (group, partition).
    committed: BTreeMap<(usize, u16), u64>,
    next: BTreeMap<(usize, u16), u64>,
}

const GROUPS: [&str; 2] = ["g", "other"];

async fn run(adapter: &mut dyn Adapter, steps: Vec<Step>) {
    let mut model = Model::default();
    let mut members: BTreeMap<usize, Box<dyn Consumer>> = BTreeMap::new();
    let mut serial = 0u32;
    for step in steps {
        match step {
            Step::Produce { partition, records } => {
                let records: Vec<Vec<u8>> = (0..records)
                    .map(|_| {
                        serial += 1;
                        serial.to_string().into_bytes()
                    })
                    .collect();
                let slices: Vec<&[u8]> = records.iter().map(Vec::as_slice).collect();
                let at = adapter.queue().produce("t", partition, &slices).await.unwrap();
                let log = model.log.entry(partition).or_default();
                assert_eq!(at, Position(log.len() as u64));
                log.push(records);
            }
            Step::Poll { group, records } => {
                let member = match members.remove(&group) {
                    Some(member) => member,
                    None => {
                        let mut member = adapter.queue().consumer("t", GROUPS[group]).await.unwrap();
                        assigned(&mut *member, 2).await;
                        member
                    }
                };
                let member = members.entry(group).or_insert(member);
                let waiting = (0..2).any(|p| {
                    let next = model.next.get(&(group, p)).copied().unwrap_or_default();
                    next < model.log.get(&p).map_or(0, |l| l.len() as u64)
                });
                let batches = match waiting {
                    true => gather_within(&mut **member, 1, (records, 1 << 20)).await,
                    false => member.poll(records, 1 << 20).await.unwrap(),
                };
                assert_eq!(batches.is_empty(), !waiting);
                let count: usize = batches.iter().map(|b| b.records().count()).sum();
                let groups: usize = batches.iter().map(|b| b.groups.len()).sum();
                assert!(count <= records || groups == 1);
                for batch in batches {
                    let next = model.next.entry((group, batch.partition)).or_default();
                    for delivered in &batch.groups {
                        assert_eq!(delivered.position, Position(*next));
                        let want = &model.log[&batch.partition][*next as usize];
                        assert!(delivered.records().eq(want.iter().map(Vec::as_slice)));
                        *next += 1;
                    }
                }
            }
            Step::Commit { group, partition, by } => {
                let Some(member) = members.get_mut(&group) else { continue };
                let key = (group, partition);
                let to = model.committed.get(&key).copied().unwrap_or_default() + by;
                if to <= model.next.get(&key).copied().unwrap_or_default() {
                    member.commit(partition, Position(to)).await.unwrap();
                    model.committed.insert(key, to);
                }
            }
            Step::Rewind { group } => {
                if let Some(member) = members.get_mut(&group) {
                    member.rewind();
                    model.rewind(group);
                }
            }
            Step::Leave { group } => {
                members.remove(&group);
                model.rewind(group);
            }
            Step::Restart => {
                members.clear();
                adapter.restart();
                (0..2).for_each(|g| model.rewind(g));
            }
        }
        for (group, name) in GROUPS.iter().enumerate() {
            for p in 0..2 {
                let want = model.committed.get(&(group, p)).copied().unwrap_or_default();
                assert_eq!(adapter.queue().committed("t", name, p).await.unwrap(), Position(want));
            }
        }
    }
}

impl Model {
    fn rewind(&mut self, group: usize) {
        for p in 0..2 {
            let committed = self.committed.get(&(group, p)).copied().unwrap_or_default();
            self.next.insert((group, p), committed);
        }
    }
}

fn block_on(future: impl Future<Output = ()>) {
    tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(future);
}

proptest! {
    // Each sequence has a topic of its own and waits for many rebalances.
    #![proptest_config(ProptestConfig { cases: 4, max_shrink_iters: 8, failure_persistence: None, ..ProptestConfig::default() })]
    #[test]
    fn kafka_does_what_the_model_says(steps in steps()) {
        block_on(async {
            if let Some(mut kafka) = OnKafka::new().await {
                run(&mut kafka, steps).await;
            }
        });
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]
    #[test]
    fn memory_does_what_the_model_says(steps in steps()) {
        block_on(run(&mut Memory::new(), steps));
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 16, failure_persistence: None, ..ProptestConfig::default() })]
    #[test]
    fn embedded_does_what_the_model_says(steps in steps()) {
        block_on(run(&mut Embedded::new(), steps));
    }
}
