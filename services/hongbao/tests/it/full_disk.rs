//! A disk that runs full: new wins are refused in so many words, everything else is answered, and when there is room
//! again the draws go on.
//!
//! Needs a small file system of its own, which only root can mount; elsewhere the test says so and does nothing.

use crate::books;
use crate::platform::{CROWD, PATIENCE, Place, Platform};
use crate::players::{Crowd, Draw, Won, entry, outcome};
use crate::vendor::Vendor;
use std::collections::BTreeMap;
use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

/// The log takes 16 MiB at a time and leaves 32 MiB of the disk to the databases.
const DISK: &str = "size=128m";

/// A file system in memory, gone with the test.
struct Disk {
    at: PathBuf,
    _folder: tempfile::TempDir,
}

impl Disk {
    fn mount() -> Option<Disk> {
        let folder = tempfile::tempdir().unwrap();
        let mount =
            Command::new("mount").args(["-t", "tmpfs", "-o", DISK, "tmpfs"]).arg(folder.path()).output();
        match mount {
            Ok(done) if done.status.success() => Some(Disk { at: folder.path().to_owned(), _folder: folder }),
            _ => None,
        }
    }

    /// Takes what is free, but for so many bytes.
    fn fill(&self, but: u64) -> Ballast {
        let path = self.at.join("ballast");
        let mut file = File::create(&path).unwrap();
        let piece = vec![1u8; 64 << 10];
        while free(&self.at) > but && file.write_all(&piece).is_ok() {}
        Ballast(path)
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        // Lazily: whoever still has a file open must not keep the test's folder.
        let _ = Command::new("umount").arg("-l").arg(&self.at).status();
    }
}

struct Ballast(PathBuf);

impl Drop for Ballast {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

fn free(at: &Path) -> u64 {
    let stat = rustix::fs::statvfs(at).unwrap();
    stat.f_bavail * stat.f_frsize
}

/// Cuts the room behind the last group off the segments, and removes the one that was made ahead.
fn give_back(dir: &Path) {
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            give_back(&path);
        } else if path.extension().is_some_and(|e| e == "seg") {
            let bytes = std::fs::read(&path).unwrap();
            let used = bytes.iter().rposition(|b| *b != 0).map_or(0, |at| at + 1).next_multiple_of(64 << 10);
            let file = std::fs::File::options().write(true).open(&path).unwrap();
            file.set_len(used.min(bytes.len()) as u64).unwrap();
        } else if path.extension().is_some_and(|e| e == "tmp") {
            std::fs::remove_file(path).unwrap();
        }
    }
}

#[test]
#[allow(clippy::print_stderr)]
fn refuses_wins_and_answers_everything_else() {
    let Some(disk) = Disk::mount() else {
        eprintln!("skipped: a small file system can't be mounted here (that needs root)");
        return;
    };
    let vendor = Vendor::start();
    std::fs::write(disk.at.join("campaign.yaml"), CROWD).unwrap();
    let place = Place::at(&disk.at).with_config(&vendor.config());
    let mut platform = place.start();
    let mut crowd = Crowd::new(&place, 40);
    crowd.win_some(&mut platform);
    crowd.check_lists(&platform);
    platform.kill();

    // No room for the log any more, and some for the databases. A start needs room itself, and must find it. What the
    // last run had taken ahead for its log is given back first, as a start would do before it takes its own.
    give_back(&place.data().join("lottery"));
    let ballast = disk.fill(20 << 20);
    let mut platform = place.start();
    let before = crowd.told.clone();
    let since = Instant::now();
    loop {
        let outcomes = crowd.play_for(&mut platform, Duration::from_millis(500));
        assert_eq!(crowd.told, before, "nobody wins: {outcomes:?}");
        if outcomes.get("UNAVAILABLE").is_some_and(|n| *n > 0) {
            break;
        }
        assert!(since.elapsed() < PATIENCE, "nobody hears of the disk: {outcomes:?}");
    }
    check_old(&crowd, &place, &platform, &before);

    drop(ballast);
    crowd.win_some(&mut platform);

    // Not a byte left, while it runs: the databases can't write either. What is won in the first moments, while the log
    // has room that it took before, is told and waits in the log for its place in the lists.
    crowd.check_lists(&platform);
    let before = crowd.told.clone();
    let ballast = disk.fill(0);
    crowd.play_for(&mut platform, Duration::from_millis(2_500));
    check_old(&crowd, &place, &platform, &before);
    drop(ballast);
    crowd.win_some(&mut platform);

    crowd.resend_all(&mut platform);
    crowd.check_lists(&platform);
    crowd.check_delivery(&platform, &vendor);
    platform.stop();
    books::check(&place, &crowd.told, &vendor);
}

/// Resends of wins are answered, and so are lists and health.
#[track_caller]
fn check_old(crowd: &Crowd, place: &Place, platform: &Platform, before: &BTreeMap<Draw, Won>) {
    let mut client = platform.client(&place.gateway_token());
    for ((user, counter), won) in crowd.told.iter().take(50) {
        let since = Instant::now();
        loop {
            let answer = client.post("/v1/submit", &entry(*user, *counter)).unwrap();
            if outcome(&answer) == "WON" {
                assert_eq!(answer.body["award"]["award"], won.award.as_str());
                break;
            }
            assert!(outcome(&answer) == "PENDING" && since.elapsed() < PATIENCE, "{answer:?}");
        }
    }
    crowd.check_lists_for(platform, before);
    let health = client.get("/healthz").unwrap();
    assert_eq!(health.status, 200, "{health:?}");
}
