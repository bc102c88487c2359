//! A way to the database that breaks just when a commit is under way, and what the book makes of it.

use crate::book::{pg, pg_again};
use crate::support::{NOW_MS, award, order, policy};
use campaign::AwardId;
use delivery::book::{BookError, DeliveryBook, PgBook, Transition};
use delivery::core::{Input, OrderRow, Step, first_step, step};
use records::OrderKind;
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

fn first(n: u64) -> Step {
    first_step(&order(n, OrderKind::AtOnce, 7), NOW_MS, true)
}

fn permit(row: &OrderRow) -> Transition {
    let input = Input::Permit { payee: "p".into(), merchant: "m".into(), body_sha256: [9; 32] };
    let step = step(row, &input, NOW_MS + 5, Some(&policy()), 0).unwrap();
    Transition { from_step: row.step, from_state: row.state, step }
}

async fn step_of(book: &dyn DeliveryBook, award: AwardId) -> u32 {
    book.rows(&[award]).await.unwrap().first().map_or(0, |row| row.step)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_commit_without_an_answer_is_unsure_and_may_be_repeated() {
    let Some((database, direct)) = pg(2).await else { return };
    let cutter = Cutter::new(database.url());
    let pg = Pg::open(PgOptions::development(&cutter.url)).await.unwrap();
    let book = PgBook::open(pg, 2, NOW_MS).await.unwrap();
    for (n, cut, done) in [(1, Cut::Before, false), (2, Cut::Behind, true)] {
        cutter.next(cut);
        let error = book.take_orders(&[first(n)]).await.unwrap_err();
        assert!(matches!(error, BookError::Unsure(_)), "{error}");
        assert_eq!(step_of(&direct, award(n)).await, u32::from(done));
        assert_eq!(book.take_orders(&[first(n)]).await.unwrap(), [!done]);
        cutter.next(cut);
        let batch = [permit(&first(n).row)];
        let error = book.transition(&batch).await.unwrap_err();
        assert!(matches!(error, BookError::Unsure(_)), "{error}");
        assert_eq!(step_of(&direct, award(n)).await, 1 + u32::from(done));
        assert_eq!(book.transition(&batch).await.unwrap(), [!done]);
        assert_eq!(direct.history(award(n)).await.unwrap().len(), 2);
    }
    let again = pg_again(&database, 2).await;
    assert_eq!(again.counts().await.unwrap().iter().map(|c| c.orders).sum::<u64>(), 2);
}
