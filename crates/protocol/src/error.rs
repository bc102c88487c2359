//! Error codes: stable words for programs, with the HTTP status they map to. The only place that maps.

use crate::calls::CallError;
use crate::v1;

/// What can be wrong with a request. The word of [`Code::word`] stands on the wire.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Code {
    /// The bytes are not the message they should be.
    Malformed,
    /// A message that is well formed and makes no sense.
    Invalid,
    /// Nobody has logged in, or the token is wrong.
    Unauthenticated,
    /// The token's time is over.
    TokenExpired,
    /// Logged in, but not for this.
    Forbidden,
    /// No such thing.
    NotFound,
    /// The thing is not in a state for this.
    Refused,
    /// More than the sender may send.
    RateLimited,
    /// More than the platform takes now.
    Busy,
    /// A part of the platform can't answer now.
    Unavailable,
    /// Larger than the limit.
    TooLarge,
    /// HTTP: no such path or method.
    NoRoute,
    /// HTTP: a body type that is not taken.
    MediaType,
}

impl Code {
    /// The word on the wire.
    pub fn word(self) -> &'static str {
        match self {
            Code::Malformed => "malformed",
            Code::Invalid => "invalid",
            Code::Unauthenticated => "unauthenticated",
            Code::TokenExpired => "token_expired",
            Code::Forbidden => "forbidden",
            Code::NotFound => "not_found",
            Code::Refused => "refused",
            Code::RateLimited => "rate_limited",
            Code::Busy => "busy",
            Code::Unavailable => "unavailable",
            Code::TooLarge => "too_large",
            Code::NoRoute => "no_route",
            Code::MediaType => "media_type",
        }
    }

    /// The HTTP status.
    pub fn http_status(self) -> u16 {
        match self {
            Code::Malformed | Code::Invalid => 400,
            Code::Unauthenticated | Code::TokenExpired => 401,
            Code::Forbidden => 403,
            Code::NotFound | Code::NoRoute => 404,
            Code::Refused => 409,
            Code::TooLarge => 413,
            Code::MediaType => 415,
            Code::RateLimited => 429,
            Code::Busy | Code::Unavailable => 503,
        }
    }

    /// The message of an error with this code.
    pub fn message(self, text: impl Into<String>) -> v1::Error {
        v1::Error { code: self.word().into(), message: text.into(), fatal: false, retry_after_ms: 0 }
    }
}

impl CallError {
    /// The code that a player's client sees.
    pub fn code(&self) -> Code {
        match self {
            CallError::NotFound(_) => Code::NotFound,
            CallError::Invalid(_) => Code::Invalid,
            CallError::Refused(_) => Code::Refused,
            CallError::Busy(_) => Code::Busy,
            CallError::Unavailable(_) => Code::Unavailable,
        }
    }

    /// The error as a message between services.
    pub(crate) fn message(&self) -> v1::Error {
        let mut message = self.code().message(self.to_string());
        if let CallError::Busy(wait_ms) = self {
            message.retry_after_ms = *wait_ms;
        }
        message
    }

    /// The error that a message between services means. A word that is not one of a call's errors is a fault of the
    /// other side, so the same again may help.
    pub(crate) fn from_message(message: &v1::Error) -> CallError {
        let text = message.message.clone();
        match message.code.as_str() {
            "not_found" => CallError::NotFound(text),
            "invalid" => CallError::Invalid(text),
            "refused" => CallError::Refused(text),
            "busy" => CallError::Busy(message.retry_after_ms),
            _ => CallError::Unavailable(text),
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::calls::CallError;

    #[test]
    fn errors_of_calls_cross_the_wire() {
        for error in [
            CallError::NotFound("a".into()),
            CallError::Invalid("b".into()),
            CallError::Refused("c".into()),
            CallError::Busy(7),
            CallError::Unavailable("d".into()),
        ] {
            assert_eq!(CallError::from_message(&error.message()), error);
        }
    }
}
