//! Requests other than submits: rare, answered by flow and delivery, which may wait for a disk.

use std::sync::Arc;
use std::time::Duration;

use campaign::{AwardId, UserId, VendorId};
use protocol::calls::{Accounts, Awards, CallError, Chat, ConnectionAt};
use protocol::error::Code;
use protocol::v1;

use crate::limits::{ACCOUNT_BYTES_MAX, PRIZES_DEFAULT, PRIZES_MAX};

/// A request that makes sense, from a speaker who may make it.
#[derive(Clone, PartialEq, Debug)]
pub enum Request {
    /// What has the user won?
    Prizes {
        /// Who asks.
        user: UserId,
        /// Only awards behind this one.
        after: Option<AwardId>,
        /// At most so many.
        limit: usize,
    },
    /// The user wants an award delivered.
    Claim {
        /// Who asks.
        user: UserId,
        /// The award.
        award: AwardId,
    },
    /// What the user is at a vendor.
    Account {
        /// Who asks.
        user: UserId,
        /// The vendor.
        vendor: VendorId,
        /// The account there.
        account: String,
    },
    /// Anything for chat.
    Chat {
        /// On which connection.
        from: ConnectionAt,
        /// What; user and device in it are proved.
        ask: Box<v1::ChatRequest>,
        /// The user that the answer names: on gateways' connections.
        named: u64,
    },
}

/// What came of it.
#[derive(Clone, PartialEq, Debug)]
pub enum Answer {
    /// A login may go on.
    Admitted(Box<v1::Login>),
    /// To Prizes.
    Prizes(v1::PrizesAnswer),
    /// To Claim.
    Claim(v1::ClaimAnswer),
    /// To Account.
    Account(v1::AccountAnswer),
    /// To a request for chat.
    Chat(Box<v1::ChatAnswer>),
}

/// Who a request is for. `own` is the user of the login, or `None` on a gateway's connection.
///
/// # Errors
/// When a user names another, or a gateway nobody.
#[inline]
pub fn user_of(own: Option<u64>, named: u64) -> Result<u64, v1::Error> {
    match own {
        Some(own) if named == 0 || named == own => Ok(own),
        Some(own) => Err(Code::Forbidden.message(format!(
            "user {named} is not {own}, who is logged in here; leave user out or name your own"
        ))),
        None if named == 0 => {
            Err(Code::Invalid
                .message("user is missing: a gateway names the player, 1 or above, in each request"))
        }
        None => Ok(named),
    }
}

fn award_id(field: &str, text: &str) -> Result<AwardId, v1::Error> {
    text.parse().map_err(|error| {
        let shown: String = text.chars().take(40).collect();
        Code::Invalid.message(format!("{field} is {shown:?}: {error}"))
    })
}

impl Request {
    /// A Prizes request.
    ///
    /// # Errors
    /// What makes no sense in it.
    pub fn prizes(own: Option<u64>, message: &v1::PrizesRequest) -> Result<Self, v1::Error> {
        let user = UserId(user_of(own, message.user)?);
        let after = Some(&message.after).filter(|after| !after.is_empty());
        let after = after.map(|after| award_id("after", after)).transpose()?;
        let limit = match message.limit {
            0 => PRIZES_DEFAULT,
            1..=PRIZES_MAX => message.limit,
            more => {
                return Err(Code::Invalid.message(format!(
                    "limit is {more}; it must be 1 to {PRIZES_MAX}, or 0 for {PRIZES_DEFAULT}"
                )));
            }
        };
        Ok(Request::Prizes { user, after, limit: limit as usize })
    }

    /// A Claim.
    ///
    /// # Errors
    /// What makes no sense in it.
    pub fn claim(own: Option<u64>, message: &v1::Claim) -> Result<Self, v1::Error> {
        let user = UserId(user_of(own, message.user)?);
        Ok(Request::Claim { user, award: award_id("award", &message.award)? })
    }

    /// An Account.
    ///
    /// # Errors
    /// What makes no sense in it.
    pub fn account(own: Option<u64>, message: v1::Account) -> Result<Self, v1::Error> {
        let user = UserId(user_of(own, message.user)?);
        if message.vendor == 0 {
            return Err(Code::Invalid.message("vendor is missing: name the vendor's id"));
        }
        if message.account.is_empty() || message.account.len() > ACCOUNT_BYTES_MAX {
            let bytes = message.account.len();
            return Err(Code::Invalid
                .message(format!("account has {bytes} bytes; it must have 1 to {ACCOUNT_BYTES_MAX}")));
        }
        if message.account.chars().any(char::is_control) {
            return Err(Code::Invalid.message("account has control characters; it must be plain text"));
        }
        Ok(Request::Account { user, vendor: VendorId(message.vendor), account: message.account })
    }

    /// Has it answered, within `within_ms`.
    ///
    /// # Errors
    /// What the answering side says, or that it takes too long; the same again is safe.
    pub async fn serve(self, desks: Desks, within_ms: u32) -> Result<Answer, v1::Error> {
        let answer = tokio::time::timeout(Duration::from_millis(within_ms.into()), self.call(&desks)).await;
        match answer {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(error)) => Err(error_of(&error)),
            Err(_) => {
                let mut error = Code::Unavailable.message("no answer in time; ask the same again");
                error.retry_after_ms = within_ms;
                Err(error)
            }
        }
    }

    async fn call(self, desks: &Desks) -> Result<Answer, CallError> {
        match self {
            Request::Prizes { user, after, limit } => {
                let (awards, more) = desks.awards.prizes(user, after, limit).await?;
                Ok(Answer::Prizes(v1::PrizesAnswer { awards, more }))
            }
            Request::Claim { user, award } => {
                let award = desks.awards.claim(user, award).await?;
                Ok(Answer::Claim(v1::ClaimAnswer { award: Some(award) }))
            }
            Request::Account { user, vendor, account } => {
                let version = desks.accounts.set_account(user, vendor, &account).await?;
                Ok(Answer::Account(v1::AccountAnswer { version }))
            }
            Request::Chat { from, ask, named } => {
                let Some(chat) = &desks.chat else { return Err(CallError::Refused(NO_CHAT.to_owned())) };
                let mut answer = chat.ask(from, *ask).await?;
                answer.user = named;
                Ok(Answer::Chat(Box::new(answer)))
            }
        }
    }
}

/// What somebody hears whose address logs in too often.
pub fn too_many_logins(wait_ms: u32) -> v1::Error {
    let mut error = Code::RateLimited.message("too many logins from this address");
    error.retry_after_ms = wait_ms;
    error
}

/// What is said where nobody chats.
pub const NO_CHAT: &str = "this platform serves no chat";

/// Who answers.
#[derive(Clone)]
pub struct Desks {
    /// Flow.
    pub awards: Arc<dyn Awards>,
    /// Delivery.
    pub accounts: Arc<dyn Accounts>,
    /// Chat, where there is one.
    pub chat: Option<Arc<dyn Chat>>,
}

/// The error that a player's client sees.
pub fn error_of(error: &CallError) -> v1::Error {
    let mut message = error.code().message(error.to_string());
    message.retry_after_ms = match error {
        CallError::Busy(wait_ms) => *wait_ms,
        CallError::Unavailable(_) => 1_000,
        _ => 0,
    };
    message
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn users_speak_for_themselves_and_gateways_name_somebody() {
        assert_eq!(user_of(Some(5), 0), Ok(5));
        assert_eq!(user_of(Some(5), 5), Ok(5));
        assert_eq!(user_of(Some(5), 6).unwrap_err().code, "forbidden");
        assert_eq!(user_of(None, 6), Ok(6));
        assert_eq!(user_of(None, 0).unwrap_err().code, "invalid");
    }

    #[test]
    fn nonsense_is_named() {
        let prizes = |after: &str, limit| {
            Request::prizes(Some(1), &v1::PrizesRequest { user: 0, after: after.into(), limit })
        };
        assert!(matches!(prizes("", 0), Ok(Request::Prizes { after: None, limit: 50, .. })));
        assert!(prizes("", 201).unwrap_err().message.contains("200"));
        assert!(prizes("x", 1).unwrap_err().message.starts_with("after is \"x\""));
        let account = |vendor, account: &str| {
            Request::account(Some(1), v1::Account { user: 0, vendor, account: account.into() })
        };
        assert!(account(1, "openid").is_ok());
        assert!(account(0, "openid").unwrap_err().message.contains("vendor"));
        assert!(
            account(1, "").is_err() && account(1, "a\nb").is_err() && account(1, &"x".repeat(257)).is_err()
        );
        assert!(Request::claim(Some(1), &v1::Claim::default()).is_err());
    }
}
