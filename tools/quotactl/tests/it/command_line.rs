//! What is said before anything is asked.

use crate::fake::{Fake, Reply};
use crate::support::Home;

#[test]
fn a_wrong_command_line_has_its_own_code() {
    let home = Home::new();
    for (args, told) in [
        (&["pause", "7", "prize:11", "--reason", "x"][..], "prize:2/11"),
        (&["pause", "7", "prize:2/11"], "--reason"),
        (&["pause", "7", "prize:2/11", "--reason", " "], "a reason has"),
        (&["set-rate", "7", "round:2", "9", "--reason", "x"], "prize:2/11"),
        (&["lower", "7", "2/11", "0", "--reason", "x"], "0"),
        (&["apply", "bad.yaml", "--reason", "x", "--grey-users", "100%"], "99.9%"),
        (
            &["apply", "bad.yaml", "--reason", "x", "--grey-users", "1%", "--grey-nodes", "1"],
            "cannot be used",
        ),
        (&["approve", "../x"], "p-..."),
        (&["history", "0"], "whole number"),
        (&["status", "--token", "secret"], "--token"),
        (&["status"], "no server is named"),
        (&["status", "--server", "https://a.example"], "http only"),
        (&["status", "--profile", "live"], "there is no profile `live`"),
        (&[], "Usage"),
    ] {
        let ran = home.run(args).expect(2);
        assert!(ran.err.contains(told), "{args:?}: {ran:#?}");
        assert_eq!(ran.out, "", "{args:?}");
    }
}

#[test]
fn help_is_no_failure() {
    let home = Home::new();
    let ran = home.run(&["--help"]).expect(0);
    assert!(ran.out.contains("verify-audit") && ran.out.contains("HONGBAO_TOKEN"), "{ran:#?}");
    for command in ["apply", "watch", "simulate", "login"] {
        assert!(home.run(&[command, "--help"]).expect(0).out.contains("Usage"));
    }
}

#[test]
fn shells_complete_every_command() {
    for shell in ["bash", "zsh", "fish"] {
        let ran = Home::new().run(&["completions", shell]).expect(0);
        for command in ["validate", "set-rate", "verify-audit", "vendor-limit"] {
            assert!(ran.out.contains(command), "{shell}: {command}");
        }
    }
    Home::new().run(&["completions", "tcsh"]).expect(2);
}

#[test]
fn there_are_no_colours_in_a_file() {
    let body = serde_json::json!({
        "ok": true, "rows": "3", "versions": "2", "before_trail": "0", "head": "ab", "broken_at": null, "why": null
    });
    let fake = Fake::always(Reply::Json(200, body));
    let ran = Home::at(&fake).with("TERM", "xterm").run(&["verify-audit"]).expect(0);
    assert_eq!(ran.out, "the audit trail is whole: 3 rows, 2 versions as they were written, head ab\n");
}
