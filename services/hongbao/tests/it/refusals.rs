//! What the binary refuses to start with: each with the exit code that a supervisor goes by, and a message that says
//! what is wrong, where, and what would be right.

use crate::platform::{CROWD, Place};
use crate::players::Crowd;
use std::os::unix::fs::{FileExt, PermissionsExt};
use std::path::PathBuf;
use std::process::Command;

const BAD_CONFIG: i32 = 64;
const DATA_DAMAGED: i32 = 65;
const DATA_NEWER: i32 = 66;
const DATA_IN_USE: i32 = 67;
const CANNOT_LISTEN: i32 = 68;

#[test]
fn a_campaign_file_with_an_error() {
    let wrong = CROWD.replace("units: 20000", "unit: 20000");
    let line = wrong.lines().position(|l| l.contains("unit: 20000")).unwrap() + 1;
    let column = wrong.lines().nth(line - 1).unwrap().find("unit:").unwrap() + 1;
    let place = Place::new(&wrong);
    let at = format!("{line}:{column}:");
    place.refused(&[]).expect(BAD_CONFIG, &["campaign.yaml", &at, "unit", "did you mean `units`?"]);

    let check =
        Command::new(env!("CARGO_BIN_EXE_hongbao")).arg("check").arg(place.campaign()).output().unwrap();
    let said = String::from_utf8_lossy(&check.stderr);
    assert_eq!(check.status.code(), Some(BAD_CONFIG), "{said}");
    assert!(said.contains(&at) && said.contains("did you mean `units`?"), "{said}");
}

#[test]
fn a_campaign_file_that_is_not_there() {
    let place = Place::new(CROWD);
    std::fs::remove_file(place.campaign()).unwrap();
    place.refused(&[]).expect(BAD_CONFIG, &["campaign.yaml", "No such file"]);
}

#[test]
fn settings_that_are_none() {
    let place = Place::new(CROWD);
    place.refused(&["--set", "lottery.shard=4"]).expect(BAD_CONFIG, &["lottery.shard", "shards"]);
    place.refused(&["--set", "lottery.shards=3"]).expect(BAD_CONFIG, &["power of two"]);
    place.refused(&["--set", "lottery.shards=many"]).expect(BAD_CONFIG, &["lottery.shards"]);
    place.refused(&["--config", "/nowhere/config.toml"]).expect(BAD_CONFIG, &["/nowhere/config.toml"]);
    let shared = place.refused(&["--set", "chat.store=postgresql"]);
    shared.expect(BAD_CONFIG, &["chat.store", "hongbao run --role chat", "\"log\""]);
}

#[test]
fn a_data_directory_that_is_in_use() {
    let place = Place::new(CROWD);
    let first = place.start();
    let pid = first.pid().to_string();
    place.refused(&[]).expect(DATA_IN_USE, &["in use by process", &pid, "another data directory"]);
    first.stop();
}

#[test]
fn a_data_directory_of_a_newer_version() {
    let place = Place::new(CROWD);
    place.start().stop();
    let format = place.data().join("FORMAT");
    std::fs::write(&format, "hongbao-data 99\n").unwrap();
    place.refused(&[]).expect(DATA_NEWER, &["newer version", "99", "start that version"]);
    std::fs::write(&format, "hongbao-data 1\n").unwrap();
    place.start().stop();
}

#[test]
fn an_address_that_is_taken() {
    let place = Place::new(CROWD);
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    for key in ["access.http", "access.tcp"] {
        let set = format!("{key}={address}");
        place.refused(&["--set", &set]).expect(CANNOT_LISTEN, &[&address]);
    }
}

#[test]
fn keys_that_others_can_read() {
    let place = Place::new(CROWD);
    place.start().stop();
    let keys = place.data().join("keys/keys.toml");
    std::fs::set_permissions(&keys, std::fs::Permissions::from_mode(0o644)).unwrap();
    place.refused(&[]).expect(BAD_CONFIG, &["keys.toml", "644", "0600"]);
    std::fs::set_permissions(&keys, std::fs::Permissions::from_mode(0o600)).unwrap();
    place.start().stop();
}

fn segments(place: &Place) -> Vec<PathBuf> {
    let dir = place.data().join("lottery/log");
    let mut files: Vec<_> = std::fs::read_dir(dir).unwrap().map(|e| e.unwrap().path()).collect();
    files.retain(|file| file.extension().is_some_and(|e| e == "seg"));
    files.sort();
    files
}

fn flip(file: &PathBuf, at: u64) {
    let file = std::fs::File::options().read(true).write(true).open(file).unwrap();
    let mut byte = [0];
    file.read_exact_at(&mut byte, at).unwrap();
    file.write_all_at(&[byte[0] ^ 0x10], at).unwrap();
}

/// Bytes of groups in a segment: up to its last byte that is not zero.
fn used(file: &PathBuf) -> u64 {
    std::fs::read(file).unwrap().iter().rposition(|b| *b != 0).unwrap() as u64
}

/// In the segment of the last epoch, and in one before it.
#[test]
fn a_flow_log_with_a_flipped_byte_in_its_middle() {
    let place = Place::new(CROWD);
    let mut platform = place.start();
    let mut crowd = Crowd::new(&place, 40);
    crowd.win_some(&mut platform);
    platform.kill();
    let mut platform = place.start();
    crowd.win_some(&mut platform);
    platform.kill();
    let files = segments(&place);
    assert!(files.len() >= 2, "{files:?}");
    for file in [files.last().unwrap(), &files[0]] {
        let at = used(file) / 2;
        flip(file, at);
        let name = file.file_name().unwrap().to_str().unwrap();
        let ended = place.refused(&[]);
        ended.expect(DATA_DAMAGED, &["log corrupt", name, "at byte"]);
        // The damage is found where its group begins, which is not far before it.
        let offset = ended.stderr.split("at byte ").nth(1).and_then(|t| t.split(',').next()).unwrap();
        let offset: u64 = offset.parse().unwrap();
        assert!(offset <= at && at - offset < 16_384, "{at} was flipped: {}", ended.stderr);
        let advice = ["restore", "copy", "replica", "backup", "archive"];
        assert!(advice.iter().any(|word| ended.stderr.contains(word)), "no advice: {}", ended.stderr);
        flip(file, at);
    }
    let mut platform = place.start();
    crowd.resend_all(&mut platform);
    platform.stop();
}
