//! A process that is killed at each named point, and started again. Needs the feature `faults`.

use std::path::Path;
use std::process::Command;

use flowlog::{LogWriter, Position, RealDisk};

use crate::support::*;

const DIR: &str = "FLOWLOG_KILL_DIR";
const GROUPS: u64 = 30;

/// Not a test: the process that is killed. After each sync it notes the durable end in a file.
#[test]
#[ignore = "started by the test below"]
fn child() {
    let Ok(dir) = std::env::var(DIR) else { return };
    let dir = Path::new(&dir);
    let (mut writer, report) = open(&RealDisk, &dir.join("log"), options()).unwrap();
    writer.begin_epoch(report.last_epoch.map_or(1, |e| e + 1)).unwrap();
    writer.work_aside();
    while writer.end() < Position(GROUPS) {
        if let Some(chore) = writer.chore() {
            writer.chore_done(chore.run(&|| true)).unwrap();
        }
        let records = records_of(writer.end().0);
        let end = put(&mut writer, &records).next();
        std::fs::write(dir.join("told"), end.to_string()).unwrap();
    }
}

fn told(dir: &Path) -> u64 {
    std::fs::read_to_string(dir.join("told")).ok().and_then(|t| t.parse().ok()).unwrap_or(0)
}

fn run(dir: &Path, fault: &str) -> bool {
    let status = Command::new(std::env::current_exe().unwrap())
        .args(["kill::child", "--exact", "--ignored"])
        .env(DIR, dir)
        .env("HONGBAO_FAULT", fault)
        .stdout(std::process::Stdio::null())
        .stderr(std::process::Stdio::null())
        .status()
        .unwrap();
    status.success()
}

#[test]
fn killed_at_every_point_the_log_keeps_what_was_told() {
    let points = [
        "log.before_write",
        "log.after_write",
        "log.after_sync",
        "log.spare_made",
        "log.before_segment_rename",
        "log.after_segment_rename",
    ];
    for point in points {
        for nth in 1..=2 {
            let temporary = tempfile::tempdir().unwrap();
            let dir = temporary.path();
            assert!(!run(dir, &format!("{point}:{nth}")), "{point}:{nth} was not passed");
            let before = told(dir);
            assert!(before < GROUPS);
            let known = Some(Position(before));
            let (_, report) =
                LogWriter::open(RealDisk, &dir.join("log"), options(), known, Some(Position::ZERO)).unwrap();
            assert!(report.end.0 == before || report.end.0 == before + 1, "{point}:{nth}: {report:?}");
            assert!(run(dir, ""), "the next start of {point}:{nth}");
            let all = read_from(&RealDisk, &dir.join("log"), Position::ZERO, Position(GROUPS)).unwrap();
            assert!((0..GROUPS).all(|g| all[g as usize] == records_of(g)), "{point}:{nth}");
        }
    }
}
