//! `watch` without a terminal.

use std::io::{BufRead as _, BufReader};
use std::time::Duration;

use serde_json::json;

use crate::fake::{Fake, Reply, problem};
use crate::support::Home;

fn status(awarded: u64, cut_off: bool) -> Reply {
    Reply::Json(
        200,
        json!({"nodes": [{"node": 1, "epoch": 5, "session": true, "plans": [{"campaign": 7, "seq_no": "13"}]}],
            "prizes": [{"campaign": 7, "at": "2/11", "budget": "9000", "granted": "5000", "awarded": awarded.to_string(),
                        "open_leases": 2, "per_second": 40.2, "paused": false}],
            "vendors": [{"vendor": 3, "limit_per_second": 20, "backlog": "9", "cut_off": cut_off}]}),
    )
}

#[test]
fn a_line_a_second_and_alarms_when_they_change() {
    let fake = Fake::start(|_, before| status(1_000 + before as u64, before == 0));
    let ran = Home::at(&fake).run(&["watch", "--count", "2"]).expect(0);
    // Without the time of day.
    let lines: Vec<&str> = ran.out.lines().map(|line| &line[9..]).collect();
    assert_eq!(
        lines,
        [
            "nodes 1, awarded 1,000 of 9,000, 40 units/s, leases 2, backlog 9",
            "ALARM vendor 3 is cut off, 9 awards wait",
            "nodes 1, awarded 1,001 of 9,000, 40 units/s, leases 2, backlog 9",
            "over: vendor 3 is cut off, 9 awards wait",
        ]
    );
    assert!(fake.seen().iter().all(|seen| seen.what() == "GET /v1/status"));
}

#[test]
fn json_is_a_document_a_line() {
    let fake = Fake::start(|_, before| status(before as u64, false));
    let ran = Home::at(&fake).run(&["watch", "--json", "--count", "2"]).expect(0);
    let awarded: Vec<_> = ran.json_lines().iter().map(|look| look["prizes"][0]["awarded"].clone()).collect();
    assert_eq!(awarded, ["0", "1"]);
}

#[test]
fn it_goes_on_while_nobody_answers() {
    let fake =
        Fake::start(|_, before| if before == 1 { problem(503, "Not now", "") } else { status(1, false) });
    let ran = Home::at(&fake).run(&["watch", "--count", "3"]).expect(0);
    assert!(
        ran.out.contains("ALARM no answer: Not now") && ran.out.contains("over: no answer: Not now"),
        "{ran:#?}"
    );
    assert_eq!(fake.seen().len(), 3, "it does not ask more often than once a second");
}

#[test]
fn it_ends_where_it_may_not_look() {
    let fake = Fake::always(problem(401, "Unknown token", ""));
    Home::at(&fake).run(&["watch"]).expect(4);
    let fake =
        Fake::start(|_, before| if before == 0 { status(1, false) } else { problem(403, "Not allowed", "") });
    Home::at(&fake).run(&["watch", "--count", "9"]).expect(4);
}

#[test]
fn a_reader_that_goes_away_ends_it_without_a_word() {
    let fake = Fake::always(status(1, false));
    let mut child = Home::at(&fake).command(&["watch"]).spawn().unwrap();
    let mut stdout = BufReader::new(child.stdout.take().unwrap());
    let mut line = String::new();
    stdout.read_line(&mut line).unwrap();
    assert!(line.contains("nodes 1"), "{line}");
    drop(stdout);
    for _ in 0..600 {
        if let Some(status) = child.try_wait().unwrap() {
            let mut said = String::new();
            std::io::Read::read_to_string(&mut child.stderr.take().unwrap(), &mut said).unwrap();
            assert_eq!((status.code(), said.as_str()), (Some(0), ""));
            return;
        }
        std::thread::sleep(Duration::from_millis(100));
    }
    child.kill().unwrap();
    panic!("it still writes to nobody");
}
