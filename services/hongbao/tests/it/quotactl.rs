//! The operators' program against the real platform: a change by two people, brakes, a grey version, a way back, an
//! audit, a rehearsal, and a platform that is killed in between.

use crate::platform::{CROWD, PATIENCE, Place, Platform, print};
use serde_json::Value;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// Done; refused; a wrong command line; nobody answers; not allowed.
const CODES: [i32; 5] = [0, 1, 2, 3, 4];

/// The binary beside the platform's. `make test` builds it before anything is tested; a test of this crate alone builds it.
fn binary() -> PathBuf {
    let path = Path::new(env!("CARGO_BIN_EXE_hongbao")).with_file_name("quotactl");
    if !path.is_file() {
        let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
        let built = Command::new(cargo).args(["build", "--locked", "-p", "quotactl"]).status().unwrap();
        assert!(built.success() && path.is_file(), "quotactl is not at {}", path.display());
    }
    path
}

/// What a command came to.
pub struct Said {
    code: i32,
    out: String,
    err: String,
}

impl Said {
    fn json(&self) -> Value {
        serde_json::from_str(&self.out).unwrap_or_else(|e| panic!("{e}: {}", self.out))
    }
}

/// Somebody at a terminal.
pub struct Desk {
    /// The folder that has the keys, and the operators beside them.
    data: PathBuf,
    folder: tempfile::TempDir,
    binary: PathBuf,
    server: String,
}

impl Desk {
    fn new(place: &Place, platform: &Platform) -> Desk {
        Desk::at(place.data(), platform.console)
    }

    /// Before a console.
    pub fn at(data: PathBuf, console: SocketAddr) -> Desk {
        let folder = tempfile::tempdir().unwrap();
        Desk { data, folder, binary: binary(), server: format!("http://{console}") }
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(&self.binary);
        command.args(args).env("XDG_CONFIG_HOME", self.folder.path()).env("NO_COLOR", "1");
        for name in ["HONGBAO_SERVER", "HONGBAO_PROFILE", "HONGBAO_TOKEN"] {
            command.env_remove(name);
        }
        command.env("HONGBAO_BIN", env!("CARGO_BIN_EXE_hongbao"));
        command
    }

    fn run(mut command: Command, input: &Path) -> Said {
        let out = command.stdin(std::fs::File::open(input).unwrap()).stderr(Stdio::piped()).output().unwrap();
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        Said { code: out.status.code().unwrap(), out: text(out.stdout), err: text(out.stderr) }
    }

    /// A person with a token and a profile.
    pub fn person(&self, name: &str, role: &str) {
        let token = print(&self.data, &["token", "operator", "--name", name, "--role", role]);
        self.login(name, &token);
    }

    /// A profile for a token.
    pub fn login(&self, name: &str, token: &str) {
        let input = self.file("token", token);
        let login = self.command(&["login", "--server", &self.server, "--profile", name]);
        let said = Desk::run(login, &input);
        assert_eq!(said.code, 0, "{}{}", said.out, said.err);
        std::fs::remove_file(input).unwrap();
    }

    fn file(&self, name: &str, text: &str) -> PathBuf {
        let path = self.folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        path
    }

    /// A command of a person, with nobody to be asked.
    #[track_caller]
    fn said(&self, who: &str, args: &[&str]) -> Said {
        let mut all = vec!["--profile", who];
        all.extend(args);
        let said = Desk::run(self.command(&all), Path::new("/dev/null"));
        assert!(CODES.contains(&said.code), "{args:?}: {} {}", said.code, said.err);
        said
    }

    #[track_caller]
    pub fn expect(&self, who: &str, args: &[&str], code: i32, told: &str) -> Said {
        let said = self.said(who, args);
        assert_eq!(said.code, code, "{args:?}: {}{}", said.out, said.err);
        assert!(said.out.contains(told) || said.err.contains(told), "{args:?}: {}{}", said.out, said.err);
        said
    }

    /// The same, with an answer for programs.
    #[track_caller]
    pub fn json(&self, who: &str, args: &[&str]) -> Value {
        let mut all = vec!["--json"];
        all.extend(args);
        self.expect(who, &all, 0, "").json()
    }

    /// Waits until the status is as it should be.
    #[track_caller]
    pub fn until(&self, who: &str, what: &str, is: impl Fn(&Value) -> bool) {
        let since = Instant::now();
        loop {
            let status = self.json(who, &["status"]);
            if is(&status) {
                return;
            }
            assert!(since.elapsed() < PATIENCE, "{what}: {status}");
            std::thread::sleep(Duration::from_millis(100));
        }
    }

    #[track_caller]
    fn until_runs(&self, who: &str, change: &Value) {
        let seq_no = change["seq_no"].clone();
        assert!(seq_no.is_string(), "{change}");
        self.until(who, "the node runs it", |s| s["nodes"][0]["plans"][0]["seq_no"] == seq_no);
    }
}

/// The crowd's campaign with 30,000 yuan more in the first round.
fn raised() -> String {
    let one = "units: 60000, sum: 120000, min: 0.50, max: 20}";
    let two = "units: 60000, sum: 120000, min: 0.50, max: 20, tranches: [{units: 15000, each: 2.00}]}";
    assert!(CROWD.contains(one));
    CROWD.replacen(one, two, 1)
}

fn text<'a>(value: &'a Value, key: &str) -> &'a str {
    value[key].as_str().unwrap_or_else(|| panic!("no {key} in {value}"))
}

#[test]
fn two_people_run_a_campaign_from_a_terminal() {
    let place = Place::new(CROWD);
    let platform = place.start();
    let desk = Desk::new(&place, &platform);
    for (name, role) in [("alice", "operator"), ("bob", "approver"), ("vic", "viewer")] {
        desk.person(name, role);
    }
    let more = desk.file("more.yaml", &raised());
    let more = more.to_str().unwrap();
    desk.expect("alice", &["validate", more], 0, "good");
    let wrong = desk.file("wrong.yaml", &CROWD.replace("weight: 3", "weihgt: 3"));
    for command in ["validate", "plan"] {
        let said = desk.expect("alice", &[command, wrong.to_str().unwrap()], 1, "did you mean `weight`?");
        assert!(said.code == 1 && (said.out + &said.err).contains("15:"), "a line is named");
    }

    // Two people: the first alone can't, not even as his own second.
    desk.expect("alice", &["plan", more], 0, "+30,000.00 yuan");
    desk.expect("alice", &["apply", more, "--reason", "more for all"], 2, "--yes");
    desk.expect("vic", &["apply", more, "--reason", "more for all", "--yes"], 4, "Not allowed");
    let waiting = desk.json("alice", &["apply", more, "--reason", "more for all", "--yes"]);
    assert_eq!(text(&waiting, "state"), "waiting");
    let id = text(&waiting, "proposal").to_owned();
    desk.expect("bob", &["proposals"], 0, &id);
    desk.expect("alice", &["approve", &id, "--yes"], 4, "approver");
    desk.expect("bob", &["approve", &id, "--dry-run"], 0, "dry run: nothing was changed");
    let active = desk.json("bob", &["approve", &id, "--reason", "seen", "--yes"]);
    desk.until_runs("vic", &active);
    desk.expect("vic", &["history", "7"], 0, "bob");

    // Brakes wait for nobody; a stop ends with two.
    let paused = desk.json("alice", &["pause", "7", "prize:1/1", "--reason", "the wallet is slow", "--yes"]);
    assert_eq!(paused["effects"][0]["done"], true, "{paused}");
    desk.expect("alice", &["pause", "7", "prize:9/9", "--reason", "x", "--yes"], 1, "has no prize:9/9");
    desk.expect("alice", &["resume", "7", "prize:1/1", "--reason", "it is back", "--yes"], 0, "is active");
    let stopped = desk.json("alice", &["stop", "7", "vendor:1", "--reason", "wrong sums", "--yes"]);
    desk.until_runs("vic", &stopped);
    desk.expect("vic", &["status"], 0, "prizes are paused");
    let lifted = desk.json("alice", &["resume", "7", "vendor:1", "--reason", "corrected", "--yes"]);
    let lifted = text(&lifted, "proposal");
    desk.expect("bob", &["approve", lifted, "--yes"], 0, "is active");
    desk.expect("alice", &["reject", lifted, "--yes"], 1, "approved already");

    // Speeds: neither a stop nor no limit is called 0.
    desk.expect("alice", &["set-rate", "7", "vendor:1", "0", "--reason", "x", "--yes"], 2, "`stop`");
    let slow = desk.json("alice", &["set-rate", "7", "vendor:1", "5000", "--reason", "slowly", "--yes"]);
    let free = desk.json("alice", &["set-rate", "7", "vendor:1", "none", "--reason", "fast", "--yes"]);
    assert_eq!((text(&slow, "state"), text(&free, "state")), ("active", "waiting"));
    desk.expect("alice", &["reject", text(&free, "proposal"), "--yes"], 0, "rejected");
    let lowered = desk.json("alice", &["lower", "7", "1/2", "500", "--reason", "fewer", "--yes"]);
    assert_eq!(lowered["effects"][0]["taken"], "500", "{lowered}");
    let weight = desk.json("alice", &["set-weight", "7", "1/1", "5", "--reason", "more often", "--yes"]);
    let back = ["rollback", "7", text(&lowered, "seq_no"), "--reason", "as it was", "--yes"];
    let back = desk.json("alice", &back);
    assert!(back["seq_no"].as_str().unwrap().parse::<u64>().unwrap() > 8, "{back} after {weight}");
    desk.until_runs("vic", &back);

    // Grey, wider, and back.
    let source = desk.expect("vic", &["show", "7", "--source"], 0, "campaign: 7").out;
    let grey = source
        .replace("max: 3s}", "max: 4s}")
        .replace("name: Wallet}", "name: Wallet, release_per_second: 5000}");
    let grey = desk.file("grey.yaml", &grey);
    let grey = grey.to_str().unwrap();
    let tenth = desk.json("alice", &["apply", grey, "--grey-users", "10%", "--reason", "try", "--yes"]);
    let half = desk.json("alice", &["apply", grey, "--grey-users", "50%", "--reason", "good", "--yes"]);
    assert_eq!((text(&tenth, "state"), text(&half, "state")), ("grey", "grey"));
    assert!(half["seq_no"] != tenth["seq_no"], "{half}");
    desk.until("vic", "half of the users have it", |s| s["nodes"][0]["plans"][0]["grey"] == half["seq_no"]);
    desk.expect("alice", &["set-weight", "7", "1/1", "4", "--reason", "x", "--yes"], 1, "is out grey");
    desk.expect("alice", &["withdraw", "7", "--reason", "no use", "--yes"], 0, "withdrawn");
    desk.until("vic", "nothing is grey", |s| s["nodes"][0]["plans"][0]["grey"].is_null());
    desk.expect("alice", &["verify-audit"], 0, "versions as they were written");
    desk.expect("vic", &["audit", "--limit", "5"], 0, "more: --after 5");
    desk.expect("vic", &["watch", "--count", "2"], 0, "nodes 1");

    // Nobody answers; then everything is as it was.
    let before = desk.json("vic", &["history", "7"]);
    platform.kill();
    desk.expect("vic", &["status"], 3, "");
    let platform = place.start();
    let desk = Desk::new(&place, &platform);
    desk.person("ada", "admin");
    assert_eq!(desk.json("ada", &["history", "7"])["items"], before["items"]);
    desk.expect("ada", &["verify-audit"], 0, "whole");
    desk.expect("ada", &["pause", "7", "campaign", "--reason", "good night", "--yes"], 0, "is active");
    platform.stop();
}

/// Ten seconds, few units.
const SHORT: &str = "\
campaign: 9
name: Short
time_zone: UTC
vendors: [{id: 1, name: Wallet}]
rounds:
  - id: 1
    name: One
    open: +0s
    duration: 10s
    prizes: [{id: 1, name: Cash, kind: cash, weight: 1, vendor: 1, units: 40, each: 1.00}]
";

#[test]
fn rehearsals_are_the_same_here_and_on_the_server() {
    let place = Place::new(CROWD);
    let platform = place.start();
    let desk = Desk::new(&place, &platform);
    desk.person("alice", "operator");
    let (file, rows) =
        (desk.file("short.yaml", SHORT), desk.file("rows.csv", "second,players\n0,300\n1,0\n"));
    let (file, rows) = (file.to_str().unwrap(), rows.to_str().unwrap());
    let simulate = ["simulate", file, "--players", "300", "--arrivals", rows];
    let local = Desk::run(desk.command(&simulate), Path::new("/dev/null"));
    assert!(local.code == 0 && local.out.contains("40 won"), "{}{}", local.out, local.err);
    let html = desk.folder.path().join("report.html");
    let mut remote = simulate.to_vec();
    remote.extend(["--html", html.to_str().unwrap()]);
    let remote = desk.json("alice", &remote);
    assert_eq!((&remote["state"], &remote["summary"]["totals"]["wins"]), (&"done".into(), &"40".into()));
    assert!(std::fs::read_to_string(html).unwrap().contains("<html"));
    // A prize of one region, and players who are all there, or nowhere that is known.
    let there = SHORT
        .replace("rounds:", "regions:\n  nanjing: [320100]\nrounds:")
        .replace("each: 1.00", "each: 1.00, regions: [nanjing]");
    let there = desk.file("there.yaml", &there);
    let districts = desk.file("districts.csv", "district,share\n320100,1\n");
    let nowhere = ["simulate", there.to_str().unwrap(), "--players", "300", "--arrivals", rows];
    let wins = |args: &[&str]| desk.json("alice", args)["summary"]["totals"]["wins"].clone();
    assert_eq!(wins(&nowhere), "0");
    assert_eq!(wins(&[&nowhere[..], &["--districts", districts.to_str().unwrap()]].concat()), "40");
    let bad = desk.file("bad.csv", "district,share\nx,1\n");
    desk.expect("alice", &[&nowhere[..], &["--districts", bad.to_str().unwrap()]].concat(), 1, "line 2");
    desk.expect(
        "alice",
        &["simulate", "nowhere.yaml", "--players", "1", "--arrivals", rows],
        1,
        "nowhere.yaml",
    );
}
