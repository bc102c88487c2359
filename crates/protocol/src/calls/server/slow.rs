//! Calls other than submits: one future each, its answer a frame.

use crate::calls::limits::CALL_FRAME_MAX;
use crate::calls::wire::{CallKind, put_message, v1};
use crate::calls::{CallError, HISTORY_USERS_MAX, PastWin, Served};
use crate::v1 as play;
use campaign::{AwardId, CampaignId, UserId, VendorId};
use prost::Message;

/// Answers to histories end before they have so many bytes; whoever asked asks again about the others.
const WINS_BYTES: usize = CALL_FRAME_MAX / 2;

/// Serves a call; the answer is a whole frame.
pub(super) async fn serve(served: Served, kind: CallKind, id: u32, body: Vec<u8>) -> Vec<u8> {
    let mut out = Vec::new();
    if let Err(error) = answer(&served, kind, id, &body, &mut out).await {
        out.clear();
        put_message(&mut out, CallKind::Error, id, &error.message());
    }
    out
}

async fn answer(
    served: &Served,
    kind: CallKind,
    id: u32,
    body: &[u8],
    out: &mut Vec<u8>,
) -> Result<(), CallError> {
    match kind {
        CallKind::Prizes => {
            let request: play::PrizesRequest = read(body)?;
            let awards = there(served.awards.as_ref(), "awards")?;
            let after = Some(&request.after).filter(|after| !after.is_empty());
            let after = after.map(|after| award_id(after)).transpose()?;
            let page = awards.prizes(UserId(request.user), after, request.limit as usize).await?;
            let answer = play::PrizesAnswer { awards: page.0, more: page.1 };
            put_message(out, CallKind::PrizesAnswer, id, &answer);
        }
        CallKind::Claim => {
            let claim: play::Claim = read(body)?;
            let awards = there(served.awards.as_ref(), "awards")?;
            let award = awards.claim(UserId(claim.user), award_id(&claim.award)?).await?;
            put_message(out, CallKind::ClaimAnswer, id, &play::ClaimAnswer { award: Some(award) });
        }
        CallKind::Account => {
            let account: play::Account = read(body)?;
            let accounts = there(served.accounts.as_ref(), "accounts")?;
            let (user, vendor) = (UserId(account.user), VendorId(account.vendor));
            let version = accounts.set_account(user, vendor, &account.account).await?;
            put_message(out, CallKind::AccountAnswer, id, &play::AccountAnswer { version });
        }
        CallKind::Passed => {
            let asked: v1::Passed = read(body)?;
            let lanes = asked.lanes.iter().map(|lane| u16::try_from(*lane)).collect::<Result<Vec<_>, _>>();
            let lanes = lanes.map_err(|_| CallError::Invalid("a lane is a number up to 65535".into()))?;
            let histories = there(served.histories.as_ref(), "histories")?;
            let passed = histories.passed(&lanes).await?;
            let of = |lane: &u16| passed.iter().find(|(l, _)| l == lane).map_or(0, |(_, position)| *position);
            let answer = v1::PassedAnswer { positions: lanes.iter().map(of).collect() };
            put_message(out, CallKind::PassedAnswer, id, &answer);
        }
        CallKind::Wins => {
            let asked = users(&read(body)?)?;
            let histories = there(served.histories.as_ref(), "histories")?;
            let wins = histories.wins(&asked).await?;
            if wins.len() != asked.len() {
                let (n, got) = (asked.len(), wins.len());
                return Err(CallError::Unavailable(format!("{got} histories were found for {n} users")));
            }
            put_message(out, CallKind::WinsAnswer, id, &as_many_as_fit(&wins));
        }
        kind => return Err(CallError::Invalid(format!("{kind:?} is no call"))),
    }
    Ok(())
}

fn read<M: Message + Default>(body: &[u8]) -> Result<M, CallError> {
    M::decode(body).map_err(|error| CallError::Invalid(format!("the call can't be read: {error}")))
}

fn there<'a, T: ?Sized>(
    service: Option<&'a std::sync::Arc<T>>,
    name: &str,
) -> Result<&'a std::sync::Arc<T>, CallError> {
    service.ok_or_else(|| CallError::Invalid(format!("{name} are not served here")))
}

fn award_id(text: &str) -> Result<AwardId, CallError> {
    text.parse().map_err(|error| CallError::Invalid(format!("an award id that can't be read: {error}")))
}

fn users(asked: &v1::Wins) -> Result<Vec<(UserId, CampaignId)>, CallError> {
    let (n, campaigns) = (asked.users.len(), asked.campaigns.len());
    if n != campaigns || n > HISTORY_USERS_MAX {
        let text = format!(
            "{n} users with {campaigns} campaigns: each user has one, and a call has at most {HISTORY_USERS_MAX}"
        );
        return Err(CallError::Invalid(text));
    }
    Ok(asked.users.iter().zip(&asked.campaigns).map(|(u, c)| (UserId(*u), CampaignId(*c))).collect())
}

fn as_many_as_fit(wins: &[Vec<PastWin>]) -> v1::WinsAnswer {
    let mut answer = v1::WinsAnswer::default();
    let mut bytes = 0;
    for of_user in wins {
        let user = v1::UserWins { wins: of_user.iter().map(win).collect() };
        bytes += user.encoded_len() + 8;
        if bytes > WINS_BYTES && !answer.users.is_empty() {
            break;
        }
        answer.users.push(user);
    }
    answer
}

fn win(past: &PastWin) -> v1::Win {
    v1::Win {
        award: past.award.to_bytes().to_vec(),
        round: past.round.0,
        day: past.day,
        counter: past.counter,
        prize: past.prize.0,
        unit: past.unit,
        fen: past.fen.0,
    }
}
