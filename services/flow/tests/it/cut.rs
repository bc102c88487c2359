//! A way to the database that breaks just when a commit is under way, and what the store makes of it.

use crate::make::{batch, event, row, won};
use crate::store::pg;
use flow::core::StatValue;
use flow::store::{AwardStore, PgAwardStore};
use records::DeliveryState;
use std::io::{Read as _, Write as _};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering::SeqCst};
use storage::pg::{Pg, PgOptions};

/// What happens to the next commit.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Cut {
    /// It passes, like everything else.
    No = 0,
    /// It never gets there.
    Before = 1,
    /// It is done, and the answer never comes back.
    Behind = 2,
}

/// See the module. Each cut happens once.
pub struct Cutter {
    next: Arc<AtomicU8>,
    pub url: String,
}

impl Cutter {
    /// In front of the server of this address.
    pub fn new(url: &str) -> Cutter {
        let (head, tail) = url.rsplit_once('@').unwrap();
        let (server, database) = tail.split_once('/').unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("{head}@{}/{database}", listener.local_addr().unwrap());
        let next = Arc::new(AtomicU8::new(Cut::No as u8));
        let (server, cuts) = (server.to_owned(), Arc::clone(&next));
        std::thread::spawn(move || {
            for client in listener.incoming().map_while(Result::ok) {
                let Ok(server) = TcpStream::connect(&server) else { return };
                let cut = Arc::new(AtomicBool::new(false));
                let (c, s) = (client.try_clone().unwrap(), server.try_clone().unwrap());
                let (cuts, is_cut) = (Arc::clone(&cuts), Arc::clone(&cut));
                std::thread::spawn(move || to_server(c, s, &cuts, &is_cut));
                std::thread::spawn(move || to_client(server, client, &cut));
            }
        });
        Cutter { next, url }
    }

    pub fn next(&self, cut: Cut) {
        self.next.store(cut as u8, SeqCst);
    }
}

fn close(a: &TcpStream, b: &TcpStream) {
    let _ = (a.shutdown(Shutdown::Both), b.shutdown(Shutdown::Both));
}

fn to_server(mut client: TcpStream, mut server: TcpStream, cuts: &AtomicU8, cut: &AtomicBool) {
    let mut buffer = [0u8; 65_536];
    while let Ok(n @ 1..) = client.read(&mut buffer) {
        if buffer[..n].windows(6).any(|w| w == b"COMMIT") {
            match cuts.swap(Cut::No as u8, SeqCst) {
                1 => break,
                2 => cut.store(true, SeqCst),
                _ => {}
            }
        }
        if server.write_all(&buffer[..n]).is_err() {
            break;
        }
    }
    if !cut.load(SeqCst) {
        close(&client, &server);
    }
}

fn to_client(mut server: TcpStream, mut client: TcpStream, cut: &AtomicBool) {
    let mut buffer = [0u8; 65_536];
    while let Ok(n @ 1..) = server.read(&mut buffer) {
        if cut.load(SeqCst) || client.write_all(&buffer[..n]).is_err() {
            break;
        }
    }
    close(&client, &server);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_commit_without_an_answer_may_be_repeated() {
    let Some((database, direct)) = pg().await else { return };
    let cutter = Cutter::new(database.url());
    let through = Pg::open(PgOptions::development(&cutter.url)).await.unwrap();
    let store = PgAwardStore::open(through, 1).await.unwrap();
    for (from, cut) in [(0, Cut::Before), (1, Cut::Behind)] {
        let done = u64::from(cut == Cut::Behind);
        // The second one of each batch has the unit of the first.
        let (good, twice) = (won(1, 10 * from + 1, 7, 1, from), won(1, 10 * from + 2, 8, 1, from));
        let b = batch(from, from + 1, vec![row(good), row(twice)]);
        cutter.next(cut);
        let error = store.apply(&b).await.unwrap_err();
        assert!(error.is_retryable(), "{error}");
        assert_eq!(direct.award(good.award).await.unwrap().is_some(), cut == Cut::Behind);
        let applied = store.apply(&b).await.unwrap();
        assert_eq!((applied.new_awards, applied.new_alarms), (2 - 2 * done, 1 - done));
        assert!(applied.refused.iter().copied().eq([twice.award]));
        let events =
            [event(&good, 1, DeliveryState::Ready, 50), event(&good, 2, DeliveryState::Delivered, 60)];
        cutter.next(cut);
        assert!(store.apply_events(&events).await.unwrap_err().is_retryable());
        assert_eq!(store.apply_events(&events).await.unwrap().changed, 1 - done);
    }
    let sums = direct.statistics().await.unwrap().iter().fold(StatValue::default(), |mut sum, (_, v)| {
        sum.add(v);
        sum
    });
    assert_eq!((sums.awarded_units, sums.delivered_units), (2, 2));
    assert_eq!(direct.lanes().await.unwrap()[0].next, 2);
}
