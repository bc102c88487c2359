//! Who is probably alive: the table in which lottery nodes announce themselves, and what each reader of it has seen
//! last. Readers poll, so that access nodes and lottery nodes route by different rings for a while.

use hashring::{Member, Ring};
use ownership::MemberList;
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::sync::Arc;

/// A node that was seen before that is gone, ms.
const ALIVE_MS: u64 = 3_000;
/// From announcement to announcement, and from look to look, ms.
pub(crate) const POLL_MS: u64 = 250;

/// A node's row.
#[derive(Clone, Copy)]
struct Row {
    seen_at_ms: u64,
    draining: bool,
}

/// The table.
#[derive(Default)]
pub(crate) struct MemberTable {
    rows: BTreeMap<u16, Row>,
    /// Rings that were made before: they depend on their members alone, and take a while.
    rings: RefCell<BTreeMap<Vec<u16>, Arc<Ring>>>,
}

/// What a reader saw last.
#[derive(Clone)]
pub(crate) struct View {
    pub list: Arc<MemberList>,
    /// `None`: nobody was there yet.
    pub ring: Option<Arc<Ring>>,
}

impl View {
    pub fn new() -> View {
        View { list: Arc::new(MemberList { epoch: 0, members: Vec::new() }), ring: None }
    }
}

impl MemberTable {
    /// A node says that it is there.
    pub fn announce(&mut self, node: u16, draining: bool, now_ms: u64) {
        self.rows.insert(node, Row { seen_at_ms: now_ms, draining });
    }

    /// A node leaves.
    pub fn leave(&mut self, node: u16) {
        self.rows.remove(&node);
    }

    /// A reader looks. An empty list is not believed: somebody must be routed to. True: the list has changed.
    pub fn look(&self, view: &mut View, now_ms: u64) -> bool {
        let serves = |row: &Row| !row.draining && now_ms < row.seen_at_ms + ALIVE_MS;
        let nodes: Vec<u16> = self.rows.iter().filter(|(_, row)| serves(row)).map(|(n, _)| *n).collect();
        let members: Vec<Member> = nodes.iter().map(|&node| Member { node, weight: 1 }).collect();
        if members.is_empty() || members == view.list.members {
            return false;
        }
        let epoch = view.list.epoch + 1;
        view.list = Arc::new(MemberList { epoch, members });
        view.ring = Some(self.ring(nodes, &view.list));
        true
    }

    fn ring(&self, nodes: Vec<u16>, list: &MemberList) -> Arc<Ring> {
        let mut rings = self.rings.borrow_mut();
        // Each node once, with the weight 1: a ring there always is.
        let make = || Arc::new(list.ring().unwrap_or_else(|e| unreachable!("{e}")));
        Arc::clone(rings.entry(nodes).or_insert_with(make))
    }
}
