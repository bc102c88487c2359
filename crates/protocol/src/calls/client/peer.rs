//! Other processes: one, and all of a kind.

use super::CallOptions;
use super::link::{Failed, Link};
use crate::calls::wire::CallKind;
use crate::calls::{CallError, Cluster, ServiceSet};
use parking_lot::RwLock;
use runtime::{SharedClock, TaskKind, Tasks};
use std::cell::Cell;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

/// Attempts of a call that may be repeated.
const TRIES_MAX: usize = 3;

/// What a busy process is given before it is asked again, in ms.
const BUSY_MS: u32 = 1_000;

/// Where a process is.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Target {
    /// Its node number: whoever else answers there is refused.
    pub node: u16,
    /// Host and port.
    pub address: String,
}

/// Makes connections to other processes of the cluster.
#[derive(Clone)]
pub struct Dialer {
    pub(super) cluster: Arc<Cluster>,
    pub(super) from: Arc<str>,
    pub(super) options: CallOptions,
    pub(super) clock: SharedClock,
    pub(super) tasks: Tasks,
}

impl Dialer {
    /// A dialer that names itself `from` to others (a role and a number, for their logs). Links are tasks of `tasks`;
    /// when its shutdown is requested they end as soon as what is under way is answered.
    pub fn new(
        cluster: Cluster,
        from: &str,
        options: CallOptions,
        clock: SharedClock,
        tasks: Tasks,
    ) -> Dialer {
        Dialer { cluster: Arc::new(cluster), from: from.into(), options, clock, tasks }
    }

    /// Begins to connect, and keeps connected until [`Peer::stop`]. Returns at once.
    pub fn dial(&self, target: Target, wants: ServiceSet) -> Arc<Peer> {
        let links: Vec<_> =
            (0..self.options.links.max(1)).map(|_| Link::new(self.clock.clone(), self.options)).collect();
        for (number, link) in links.iter().enumerate() {
            let run = Arc::clone(link).run(
                target.clone(),
                Arc::clone(&self.cluster),
                (Arc::clone(&self.from), wants),
                self.tasks.shutdown().clone(),
            );
            let name = format!("link {} {number}", target.address);
            self.tasks.spawn(name, TaskKind::BestEffort, async move {
                run.await;
                Ok(())
            });
        }
        Arc::new(Peer { target, links, options: self.options })
    }
}

/// How a peer is, as seen from here.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Health {
    /// Connections that are up.
    pub links_up: usize,
    /// Connections that should be.
    pub links: usize,
    /// Failures in a row, of the link that is worst off.
    pub failures: u32,
    /// Submits that were told 'pending' because no answer came in time, since the peer was dialled.
    pub timed_out: u64,
    /// What went wrong last, while it has not gone well since.
    pub last_error: Option<String>,
}

/// A process that is called.
pub struct Peer {
    target: Target,
    links: Vec<Arc<Link>>,
    options: CallOptions,
}

thread_local! {
    /// The calling thread's number: it keeps to one link.
    static THREAD: Cell<Option<usize>> = const { Cell::new(None) };
}

/// The number of the calling thread.
fn thread_number() -> usize {
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    THREAD.with(|number| match number.get() {
        Some(number) => number,
        None => {
            let mine = NEXT.fetch_add(1, Ordering::Relaxed);
            number.set(Some(mine));
            mine
        }
    })
}

impl Peer {
    /// Where it is.
    pub fn target(&self) -> &Target {
        &self.target
    }

    /// Whether any connection is up.
    pub fn is_up(&self) -> bool {
        self.links.iter().any(|link| link.is_up())
    }

    /// How it is.
    pub fn health(&self) -> Health {
        Health {
            links_up: self.links.iter().filter(|link| link.is_up()).count(),
            links: self.links.len(),
            failures: self.links.iter().map(|link| link.carrier().failures()).max().unwrap_or(0),
            timed_out: self.links.iter().map(|link| link.timed_out()).sum(),
            last_error: self.links.iter().find_map(|link| link.carrier().last_error()),
        }
    }

    /// Lets its connections end once what is under way is answered.
    pub fn stop(&self) {
        self.links.iter().for_each(|link| link.carrier().stop());
    }

    /// Its links, the calling thread's own first.
    pub(super) fn links(&self) -> impl Iterator<Item = &Link> {
        let first = thread_number() % self.links.len();
        self.links[first..].iter().chain(&self.links[..first]).map(|link| &**link)
    }

    pub(super) fn options(&self) -> &CallOptions {
        &self.options
    }

    async fn call(&self, kind: CallKind, body: &[u8], expected: CallKind) -> Result<Vec<u8>, Failed> {
        let mut failed = Failed::Unsent("there is no connection".to_owned());
        for link in self.links() {
            let within = Duration::from_millis(self.options.try_ms.into());
            let answer = tokio::time::timeout(within, link.call(kind, body)).await;
            match answer {
                Ok(Ok((kind, body))) if kind == expected => return Ok(body),
                Ok(Ok((kind, _))) => return Err(Failed::Lost(format!("the answer is {kind:?}"))),
                Ok(Err(Failed::Unsent(why))) => failed = Failed::Unsent(why),
                Ok(Err(other)) => return Err(other),
                Err(_) => {
                    return Err(Failed::Lost(format!("no answer within {} ms", self.options.try_ms)));
                }
            }
        }
        Err(failed)
    }
}

/// May a call be repeated at another process when nobody knows whether it was done?
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Again {
    /// It does no harm.
    Safe,
    /// Only if it surely was not done.
    IfNotDone,
}

/// All processes that serve something, replaced whole as members come and go.
pub struct Peers {
    what: &'static str,
    list: RwLock<Arc<Vec<Arc<Peer>>>>,
    next: AtomicUsize,
}

impl Peers {
    /// Nobody yet. `what` names them in errors: "flow", "delivery".
    pub fn new(what: &'static str) -> Arc<Peers> {
        Arc::new(Peers { what, list: RwLock::default(), next: AtomicUsize::new(0) })
    }

    /// Replaces the list. Calls under way at those who left go on.
    pub fn set(&self, peers: Vec<Arc<Peer>>) {
        *self.list.write() = Arc::new(peers);
    }

    /// Makes the list the peers at these targets, in their order: those who are in it already keep their connections,
    /// new ones are dialled, and those who left end theirs once what is under way is answered.
    pub fn follow(
        &self,
        dialer: &Dialer,
        wants: ServiceSet,
        targets: impl IntoIterator<Item = Target>,
    ) -> Arc<Vec<Arc<Peer>>> {
        let mut list = self.list.write();
        let stays = |target: &Target| list.iter().find(|peer| peer.target == *target).map(Arc::clone);
        let peers: Vec<_> = targets
            .into_iter()
            .map(|target| stays(&target).unwrap_or_else(|| dialer.dial(target, wants)))
            .collect();
        let gone = list.iter().filter(|old| !peers.iter().any(|peer| Arc::ptr_eq(peer, old)));
        gone.for_each(|peer| peer.stop());
        *list = Arc::new(peers);
        Arc::clone(&list)
    }

    /// The list now.
    pub fn get(&self) -> Arc<Vec<Arc<Peer>>> {
        Arc::clone(&self.list.read())
    }

    /// Calls one of them, the next in turn that is up; another one when it can't answer and that is safe.
    pub(super) async fn call(
        &self,
        kind: CallKind,
        body: &[u8],
        expected: CallKind,
        again: Again,
    ) -> Result<Vec<u8>, CallError> {
        let peers = self.get();
        let first = self.next.fetch_add(1, Ordering::Relaxed);
        let mut error = match peers.len() {
            0 => CallError::Unavailable(format!("no {} node is known", self.what)),
            n => CallError::Unavailable(format!("none of {n} {} nodes can be reached", self.what)),
        };
        let in_turn = (0..peers.len()).map(|i| &peers[first.wrapping_add(i) % peers.len()]);
        for peer in in_turn.filter(|peer| peer.is_up()).take(TRIES_MAX) {
            let node = peer.target.node;
            match peer.call(kind, body, expected).await {
                Ok(body) => return Ok(body),
                Err(Failed::Said(said @ (CallError::Unavailable(_) | CallError::Busy(_)))) => error = said,
                Err(Failed::Said(said)) => return Err(said),
                Err(Failed::Unsent(why)) => {
                    error = CallError::Unavailable(format!("{} node {node}: {why}", self.what));
                }
                Err(Failed::Lost(why)) => {
                    error = CallError::Unavailable(format!("{} node {node}: {why}", self.what));
                    if again == Again::IfNotDone {
                        break;
                    }
                }
            }
        }
        Err(match error {
            CallError::Busy(0) => CallError::Busy(BUSY_MS),
            error => error,
        })
    }
}
