//! Who may use the admin API.
//!
//! Operators stand in a file beside the installation's keys: name, role, SHA-256 of the token. A token is 256 random
//! bits and is shown once, when it is made; nobody can read it from the file. A changed file is noticed within a
//! second; while it can't be read the last good one counts, and the log says so, except that a file that is gone
//! lets nobody in.

mod file;

pub use file::{OperatorsError, TOKEN_PREFIX};

use file::{Entry, Stamp};
use parking_lot::Mutex;
use quota_config::{By, Role};
use runtime::SharedClock;
use sha2::{Digest as _, Sha256};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use subtle::{Choice, ConditionallySelectable as _, ConstantTimeEq as _};

/// How long a file is taken as unchanged without a look, in ns.
const LOOK_NS: u64 = 1_000_000_000;

/// The same, for a token that nobody has.
const LOOK_AGAIN_NS: u64 = 0;

/// The operators of an installation.
pub struct Operators {
    path: PathBuf,
    clock: SharedClock,
    state: Mutex<State>,
}

struct State {
    entries: Arc<Vec<Entry>>,
    stamp: Option<Stamp>,
    looked_ns: u64,
}

impl Operators {
    /// Reads the file; there are no operators where there is none yet.
    ///
    /// # Errors
    /// When others can read it, or it is wrong.
    pub fn open(path: impl Into<PathBuf>, clock: SharedClock) -> Result<Operators, OperatorsError> {
        let path = path.into();
        let (entries, stamp) = file::read(&path)?;
        let looked_ns = clock.mono_ns();
        let state = State { entries: Arc::new(entries), stamp, looked_ns };
        Ok(Operators { path, clock, state: Mutex::new(state) })
    }

    /// Whose token it is. Takes as long whoever it is.
    pub fn find(&self, token: &str) -> Option<By> {
        // One that nobody has may have been made a moment ago.
        find_in(&self.entries(LOOK_NS), token).or_else(|| find_in(&self.entries(LOOK_AGAIN_NS), token))
    }

    /// Names and roles of all.
    pub fn list(&self) -> Vec<By> {
        self.entries(LOOK_NS).iter().map(|entry| By::new(entry.name.clone(), entry.role)).collect()
    }

    fn entries(&self, look_ns: u64) -> Arc<Vec<Entry>> {
        let mut state = self.state.lock();
        let now_ns = self.clock.mono_ns();
        if now_ns.saturating_sub(state.looked_ns) >= look_ns {
            state.looked_ns = now_ns;
            self.look(&mut state);
        }
        Arc::clone(&state.entries)
    }

    fn look(&self, state: &mut State) {
        let stamp = file::stamp(&self.path);
        if stamp.as_ref().is_ok_and(|stamp| *stamp == state.stamp) {
            return;
        }
        match file::read(&self.path) {
            Ok((entries, stamp)) => {
                tracing::info!(operators = entries.len(), "the operators' file has changed");
                (state.entries, state.stamp) = (Arc::new(entries), stamp);
            }
            Err(error) => {
                tracing::error!(%error, "the operators' file can't be read; the last good one counts")
            }
        }
    }

    /// Adds an operator to the file and gives his token, which nothing shows again.
    ///
    /// # Errors
    /// When the name is not one, or taken; when the file can't be written.
    pub fn add(path: &Path, name: &str, role: Role) -> Result<String, OperatorsError> {
        file::add(path, name, role)
    }

    /// Takes an operator out of the file: his token is worth nothing within a second.
    ///
    /// # Errors
    /// When there is none of that name, or the file can't be written.
    pub fn revoke(path: &Path, name: &str) -> Result<(), OperatorsError> {
        file::revoke(path, name)
    }
}

fn find_in(entries: &[Entry], token: &str) -> Option<By> {
    let sha256: [u8; 32] = Sha256::digest(token.as_bytes()).into();
    let mut found = 0u32;
    for (at, entry) in (1u32..).zip(entries.iter()) {
        let same: Choice = entry.token_sha256.ct_eq(&sha256);
        found = u32::conditional_select(&found, &at, same);
    }
    let entry = entries.get(usize::try_from(found.checked_sub(1)?).ok()?)?;
    Some(By::new(entry.name.clone(), entry.role))
}

#[cfg(test)]
mod tests {
    use super::{Operators, OperatorsError};
    use quota_config::{By, Role};
    use runtime::ManualClock;
    use std::os::unix::fs::PermissionsExt as _;

    #[test]
    fn operators_come_and_go_while_others_stay() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("operators.toml");
        let clock = ManualClock::new(0);
        let operators = Operators::open(&path, clock.clone()).unwrap();
        assert_eq!(operators.find("hbo_"), None);
        let alice = Operators::add(&path, "alice", Role::Approver).unwrap();
        let bob = Operators::add(&path, "bob", Role::Operator).unwrap();
        assert!(alice.starts_with("hbo_") && alice.len() == 68 && alice != bob);
        assert_eq!(operators.find(&alice), Some(By::new("alice", Role::Approver)), "known at once");
        assert_eq!(operators.find(&bob), Some(By::new("bob", Role::Operator)));
        assert_eq!(operators.find(&format!("{alice}0")), None);
        assert_eq!(operators.find(""), None);
        assert!(!std::fs::read_to_string(&path).unwrap().contains(&alice[4..]));
        assert!(matches!(Operators::add(&path, "alice", Role::Admin), Err(OperatorsError::Taken { .. })));
        Operators::revoke(&path, "alice").unwrap();
        assert!(matches!(Operators::revoke(&path, "alice"), Err(OperatorsError::Nobody { .. })));
        clock.advance_ms(1_000);
        assert_eq!((operators.find(&alice), operators.list().len()), (None, 1));
    }

    #[test]
    fn a_broken_file_keeps_the_last_good_one_and_a_missing_one_keeps_nobody() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("operators.toml");
        let token = Operators::add(&path, "alice", Role::Admin).unwrap();
        let clock = ManualClock::new(0);
        let operators = Operators::open(&path, clock.clone()).unwrap();
        std::fs::write(&path, "operator = 3").unwrap();
        clock.advance_ms(1_000);
        assert!(operators.find(&token).is_some());
        assert!(Operators::open(&path, clock.clone()).is_err());
        std::fs::remove_file(&path).unwrap();
        clock.advance_ms(1_000);
        assert_eq!(operators.find(&token), None);
    }

    #[test]
    fn a_file_that_others_can_read_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("operators.toml");
        Operators::add(&path, "alice", Role::Admin).unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o640)).unwrap();
        let refused = Operators::open(&path, ManualClock::new(0)).err().unwrap();
        assert!(refused.to_string().contains("mode 640"), "{refused}");
    }

    #[test]
    fn names_tell_two_people_apart() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("operators.toml");
        for wrong in ["", "Alice", "a b", "a\n", "é", &"a".repeat(65), "-a"] {
            assert!(matches!(Operators::add(&path, wrong, Role::Viewer), Err(OperatorsError::Name(_))));
        }
        Operators::add(&path, "li.lei@example-1_x", Role::Viewer).unwrap();
    }
}
