//! Running the binary, with a home of its own.

use std::io::Write as _;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use serde_json::Value;
use tempfile::TempDir;

use crate::fake::Fake;

/// The token that tests use.
pub const TOKEN: &str = "tok-operator";

/// What a run left.
#[derive(Debug)]
pub struct Ran {
    pub code: i32,
    pub out: String,
    pub err: String,
}

impl Ran {
    #[track_caller]
    pub fn expect(self, code: i32) -> Ran {
        assert_eq!(self.code, code, "{self:#?}");
        self
    }

    #[track_caller]
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.out).unwrap_or_else(|error| panic!("{error}: {self:#?}"))
    }

    /// One JSON document a line.
    #[track_caller]
    pub fn json_lines(&self) -> Vec<Value> {
        self.out.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }
}

/// A person's home, and what the environment names.
pub struct Home {
    pub dir: TempDir,
    env: Vec<(String, String)>,
}

impl Home {
    /// A home without profiles.
    pub fn new() -> Home {
        Home { dir: tempfile::tempdir().unwrap(), env: Vec::new() }
    }

    /// A home whose environment names a server and a token for it.
    pub fn at(fake: &Fake) -> Home {
        Home::new().with("HONGBAO_SERVER", &fake.url).with("HONGBAO_TOKEN", TOKEN)
    }

    pub fn with(mut self, name: &str, value: &str) -> Home {
        self.env.push((name.to_owned(), value.to_owned()));
        self
    }

    pub fn profiles(&self) -> PathBuf {
        self.dir.path().join("config/hongbao/quotactl.toml")
    }

    /// Writes a file into the home.
    pub fn file(&self, name: &str, text: &str) -> PathBuf {
        let path = self.dir.path().join(name);
        std::fs::write(&path, text).unwrap();
        path
    }

    pub fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_quotactl"));
        command.args(args).env_clear().env("HOME", self.dir.path()).env("TZ", "Asia/Shanghai");
        command.env("XDG_CONFIG_HOME", self.dir.path().join("config"));
        command.envs(self.env.iter().map(|(name, value)| (name, value)));
        command.current_dir(testkit::package().join("tests/golden"));
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    pub fn run(&self, args: &[&str]) -> Ran {
        ran(self.command(args).output().unwrap())
    }

    /// Runs with something at standard input.
    pub fn run_with(&self, args: &[&str], input: &str) -> Ran {
        let mut child = self.command(args).stdin(Stdio::piped()).spawn().unwrap();
        // A program that does not read its input is no failure of the test's.
        let _ = child.stdin.take().unwrap().write_all(input.as_bytes());
        ran(child.wait_with_output().unwrap())
    }
}

fn ran(output: std::process::Output) -> Ran {
    Ran {
        code: output.status.code().unwrap_or(-1),
        out: String::from_utf8(output.stdout).unwrap(),
        err: String::from_utf8(output.stderr).unwrap(),
    }
}
