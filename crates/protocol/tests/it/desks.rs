//! Awards, accounts and histories over the wire, at any of several nodes.

use crate::world::{Server, award, dial, past_win, patient, serve, tasks, up};
use campaign::{CampaignId, UserId, VendorId};
use protocol::calls::client::{CallOptions, Peers, RemoteAccounts, RemoteAwards, RemoteHistories};
use protocol::calls::{Accounts, Awards, CallError, HISTORY_USERS_MAX, Histories};
use runtime::Tasks;
use std::sync::Arc;
use std::sync::atomic::Ordering;

async fn peers(tasks: &Tasks, servers: &[&Server], options: CallOptions) -> Arc<Peers> {
    let peers = Peers::new("flow");
    let dialled: Vec<_> = servers.iter().map(|server| dial(tasks, server.address, options)).collect();
    for peer in &dialled {
        up(peer).await;
    }
    peers.set(dialled);
    peers
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn calls_and_their_errors_are_the_same_as_in_one_process() {
    let tasks = tasks();
    let server = serve(&tasks, None);
    let peers = peers(&tasks, &[&server], patient()).await;
    let awards = RemoteAwards::new(peers.clone());
    let (page, more) = awards.prizes(UserId(5), None, 17).await.unwrap();
    assert_eq!((page[0].award.clone(), page[0].fen, more), (award(1).to_string(), 17, false));
    assert!(awards.prizes(UserId(5), Some(award(9)), 1).await.unwrap().1);
    let error = awards.prizes(UserId(404), None, 1).await.unwrap_err();
    assert_eq!(error, CallError::NotFound("user 404 has nothing".into()));
    assert_eq!(awards.claim(UserId(5), award(3)).await.unwrap().award, award(3).to_string());
    let error = awards.claim(UserId(409), award(3)).await.unwrap_err();
    assert_eq!(error, CallError::Refused("it has lapsed".into()));
    assert_eq!(RemoteAccounts::new(peers).set_account(UserId(1), VendorId(2), "openid").await, Ok(1));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn histories_come_whole_however_many_frames_they_take() {
    let tasks = tasks();
    let server = serve(&tasks, None);
    let histories = RemoteHistories::new(peers(&tasks, &[&server], patient()).await);
    assert_eq!(
        histories.passed(&[3, 1, 65_535]).await.unwrap(),
        [(3, 3 << 33), (1, 1 << 33), (65_535, 65_535 << 33)]
    );
    assert_eq!(histories.passed(&[]).await.unwrap(), []);
    let asked: Vec<_> =
        (0..HISTORY_USERS_MAX as u64).map(|n| (UserId(n), CampaignId(n as u32 + 1))).collect();
    let wins = histories.wins(&asked).await.unwrap();
    assert_eq!(wins.len(), asked.len());
    for (wins, &(user, campaign)) in wins.iter().zip(&asked) {
        assert_eq!(wins.len() as u64, user.0);
        assert!((0..user.0).zip(wins).all(|(n, win)| *win == past_win(user, campaign, n)));
    }
    assert!(server.counts.others() > 3, "131,000 wins are more than a frame");
    let error = histories.wins(&vec![asked[0]; HISTORY_USERS_MAX + 1]).await.unwrap_err();
    assert!(matches!(error, CallError::Invalid(text) if text.contains("513")));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_node_is_asked_where_that_is_safe_and_only_there() {
    let tasks = tasks();
    let servers = [serve(&tasks, None), serve(&tasks, None)];
    let options = CallOptions { try_ms: 2_500, ..patient() };
    let peers = peers(&tasks, &[&servers[0], &servers[1]], options).await;
    let (awards, accounts) = (RemoteAwards::new(peers.clone()), RemoteAccounts::new(peers.clone()));
    let claims = || servers.iter().map(|server| server.host.claims.load(Ordering::SeqCst)).sum::<u64>();
    let sets = || servers.iter().map(|server| server.host.accounts.load(Ordering::SeqCst)).sum::<u64>();
    // One of both says that it can't: the other one does it.
    servers[0].host.away.store(1, Ordering::SeqCst);
    for _ in 0..2 {
        awards.claim(UserId(5), award(3)).await.unwrap();
    }
    assert_eq!(claims(), 3);
    // No answer in time: a claim is asked for again, an account is not set twice.
    let error = awards.claim(UserId(408), award(3)).await.unwrap_err();
    assert!(matches!(error, CallError::Unavailable(_)), "{error:?}");
    assert_eq!(claims(), 5);
    let error = accounts.set_account(UserId(408), VendorId(1), "x").await.unwrap_err();
    assert!(matches!(error, CallError::Unavailable(text) if text.contains("no answer within")));
    assert_eq!(sets(), 1);
    // A node that is gone is passed over for everything.
    servers[0].kill().await;
    for _ in 0..4 {
        awards.claim(UserId(5), award(3)).await.unwrap();
    }
    for _ in 0..4 {
        // Sent to a connection that breaks meanwhile, it may have been done: then nobody repeats it.
        let _ = accounts.set_account(UserId(1), VendorId(1), "x").await;
    }
    assert!(accounts.set_account(UserId(1), VendorId(1), "x").await.is_ok());
    servers[1].kill().await;
    let error = awards.claim(UserId(5), award(3)).await.unwrap_err();
    assert!(matches!(error, CallError::Unavailable(_)), "{error:?}");
    peers.set(vec![]);
    let error = awards.claim(UserId(5), award(3)).await.unwrap_err();
    assert_eq!(error, CallError::Unavailable("no flow node is known".into()));
}
