//! Profiles and tokens.

use std::os::unix::fs::PermissionsExt as _;

use serde_json::json;

use crate::fake::{Fake, Reply, Seen, problem};
use crate::support::Home;

fn knowing(token: &'static str) -> impl Fn(&Seen, usize) -> Reply {
    move |seen, _| match seen.token.as_deref() {
        Some(given) if given == token => Reply::Json(200, json!({"name": "li", "role": "operator"})),
        _ => problem(401, "Unknown token", "it may be expired"),
    }
}

#[test]
fn a_token_from_standard_input_is_checked_and_kept_privately() {
    let fake = Fake::start(knowing("tok-1"));
    let home = Home::new();
    let ran = home.run_with(&["login", "--server", &fake.url, "--profile", "prod"], "tok-1\n").expect(0);
    assert!(ran.out.contains("profile `prod`") && ran.out.contains("as li (operator)"), "{ran:#?}");
    let mode = std::fs::metadata(home.profiles()).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode, 0o600);
    // The first one is the default.
    assert_eq!(home.run(&["whoami", "--json"]).expect(0).json()["name"], "li");
    assert_eq!(fake.seen().iter().filter(|seen| seen.token.as_deref() == Some("tok-1")).count(), 2);
    let listed = home.run(&["profile", "list"]).expect(0);
    assert!(listed.out.contains("*  prod") && !listed.out.contains("tok-1"), "{listed:#?}");
    let listed = home.run(&["profile", "list", "--json"]).expect(0);
    assert_eq!(listed.json()["items"][0]["has_token"], true);
    assert!(!listed.out.contains("tok-1"));
}

#[test]
fn a_token_that_is_not_known_is_not_kept() {
    let fake = Fake::start(knowing("tok-1"));
    let home = Home::new();
    home.run_with(&["login", "--server", &fake.url], "tok-2\n").expect(4);
    assert!(!home.profiles().exists());
    home.run_with(&["login", "--server", &fake.url], "\n").expect(2);
    home.run_with(&["login", "--server", &fake.url], "two words\n").expect(2);
    home.run_with(&["login"], "tok-1\n").expect(2);
    // Unless nobody is to be asked.
    home.run_with(&["login", "--server", &fake.url, "--unchecked"], "tok-2\n").expect(0);
    home.run(&["whoami"]).expect(4);
}

#[test]
fn a_file_that_others_can_read_is_not_used() {
    let fake = Fake::start(knowing("tok-1"));
    let home = Home::new();
    home.run_with(&["login", "--server", &fake.url], "tok-1\n").expect(0);
    std::fs::set_permissions(home.profiles(), std::fs::Permissions::from_mode(0o644)).unwrap();
    for args in [&["whoami"][..], &["profile", "list"], &["login", "--server", &fake.url]] {
        let ran = home.run(args).expect(2);
        assert!(ran.err.contains("mode 0644") && ran.err.contains("chmod 600"), "{ran:#?}");
    }
    assert_eq!(fake.seen().len(), 1);
}

#[test]
fn profiles_are_chosen_used_and_removed() {
    let (a, b) = (Fake::start(knowing("tok-a")), Fake::start(knowing("tok-b")));
    let home = Home::new();
    home.run_with(&["login", "--server", &a.url, "--profile", "a"], "tok-a").expect(0);
    home.run_with(&["login", "--server", &b.url], "tok-b").expect(2);
    home.run_with(&["login", "--server", &b.url, "--profile", "b"], "tok-b").expect(0);
    home.run(&["whoami"]).expect(0);
    home.run(&["whoami", "--profile", "b"]).expect(0);
    assert_eq!((a.seen().len(), b.seen().len()), (2, 2));
    home.run(&["profile", "use", "b"]).expect(0);
    home.run(&["whoami"]).expect(0);
    assert_eq!(b.seen().len(), 3);
    home.run(&["profile", "use", "c"]).expect(2);
    home.run(&["profile", "remove", "b"]).expect(0);
    home.run(&["whoami"]).expect(2);
    let path = home.run(&["profile", "path"]).expect(0);
    assert_eq!(path.out.trim_end(), home.profiles().to_str().unwrap());
}

#[test]
fn a_token_goes_only_to_its_server() {
    let (own, other) = (Fake::start(knowing("tok-1")), Fake::start(knowing("tok-1")));
    let home = Home::new();
    home.run_with(&["login", "--server", &own.url], "tok-1").expect(0);
    home.run(&["whoami", "--server", &other.url]).expect(4);
    assert_eq!(other.seen()[0].token, None);
    home.run(&["whoami", "--server", &own.url]).expect(0);
    // The environment's token is meant for whatever is named.
    home.with("HONGBAO_TOKEN", "tok-1").run(&["whoami", "--server", &other.url]).expect(0);
}
