//! A way to a PostgreSQL server that breaks on request, just when a commit is under way: nobody then knows without asking
//! whether it was done. It also counts what is sent through it.
//!
//! Threads of its own carry the bytes, so it can stand before any client; they end with their connections, and the thread that
//! takes connections with the process.

use std::io::{Read as _, Write as _};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering::SeqCst};
use std::thread;

/// Bytes carried at once: more than a client sends in one piece.
const PIECE: usize = 1 << 20;

/// What happens to a commit.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Cut {
    /// It passes, like everything else.
    No = 0,
    /// It never gets there.
    Before = 1,
    /// It is done, and the answer never comes back.
    Behind = 2,
}

/// See the module. Cloning gives another handle.
#[derive(Clone, Debug)]
pub struct Between {
    state: Arc<State>,
    url: String,
}

#[derive(Debug, Default)]
struct State {
    cut: AtomicU8,
    /// Only the next commit is cut.
    once: AtomicBool,
    cuts: AtomicU64,
    messages: AtomicU64,
}

impl State {
    /// What happens to the commit that is passing now.
    fn now(&self) -> u8 {
        let cut = match self.once.load(SeqCst) {
            true => self.cut.swap(Cut::No as u8, SeqCst),
            false => self.cut.load(SeqCst),
        };
        self.cuts.fetch_add(u64::from(cut != Cut::No as u8), SeqCst);
        cut
    }
}

impl Between {
    /// In front of the server of an address, `postgres://user:password@host:port/database`.
    ///
    /// # Panics
    /// When the address is not of this form, or loopback has no port left.
    pub fn new(url: &str) -> Between {
        let (head, tail) = url.rsplit_once('@').unwrap_or_else(|| panic!("{url} names no user"));
        let (server, database) = tail.split_once('/').unwrap_or_else(|| panic!("{url} names no database"));
        let listener = TcpListener::bind("127.0.0.1:0").unwrap_or_else(|e| panic!("no port: {e}"));
        let here = listener.local_addr().unwrap_or_else(|e| panic!("no port: {e}"));
        let (state, server) = (Arc::new(State::default()), server.to_owned());
        let carried = Arc::clone(&state);
        thread::spawn(move || {
            for client in listener.incoming().map_while(Result::ok) {
                let Ok(server) = TcpStream::connect(&server) else { continue };
                let (Ok(c), Ok(s)) = (client.try_clone(), server.try_clone()) else { continue };
                let (state, is_cut) = (Arc::clone(&carried), Arc::new(AtomicBool::new(false)));
                let cut = Arc::clone(&is_cut);
                thread::spawn(move || to_server(c, s, &state, &is_cut));
                thread::spawn(move || to_client(server, client, &cut));
            }
        });
        Between { state, url: format!("{head}@{here}/{database}") }
    }

    /// The database's address through here.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Cuts the next commit, and no other.
    pub fn cut_next(&self, cut: Cut) {
        self.state.once.store(true, SeqCst);
        self.state.cut.store(cut as u8, SeqCst);
    }

    /// Cuts every commit from here on; [`Cut::No`] ends it.
    pub fn cut_all(&self, cut: Cut) {
        self.state.once.store(false, SeqCst);
        self.state.cut.store(cut as u8, SeqCst);
    }

    /// Commits that were cut.
    pub fn cuts(&self) -> u64 {
        self.state.cuts.load(SeqCst)
    }

    /// Messages of statements that were sent; not those that ask whether a connection is still there.
    pub fn messages(&self) -> u64 {
        self.state.messages.load(SeqCst)
    }
}

fn close(a: &TcpStream, b: &TcpStream) {
    let _ = (a.shutdown(Shutdown::Both), b.shutdown(Shutdown::Both));
}

fn to_server(mut client: TcpStream, mut server: TcpStream, state: &State, cut: &AtomicBool) {
    let mut piece = vec![0u8; PIECE];
    while let Ok(n @ 1..) = client.read(&mut piece) {
        state.messages.fetch_add(u64::from(piece[0] == b'Q'), SeqCst);
        if piece[..n].windows(6).any(|w| w == b"COMMIT") {
            match state.now() {
                1 => break,
                2 => cut.store(true, SeqCst),
                _ => {}
            }
        }
        if server.write_all(&piece[..n]).is_err() {
            break;
        }
    }
    // With the answer to be lost, the other direction closes both once the server has given it.
    if !cut.load(SeqCst) {
        close(&client, &server);
    }
}

fn to_client(mut server: TcpStream, mut client: TcpStream, cut: &AtomicBool) {
    let mut piece = vec![0u8; 1 << 16];
    while let Ok(n @ 1..) = server.read(&mut piece) {
        if cut.load(SeqCst) || client.write_all(&piece[..n]).is_err() {
            break;
        }
    }
    close(&client, &server);
}
