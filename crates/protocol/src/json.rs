//! The JSON form of a message: the proto3 JSON mapping (64-bit numbers are strings, unknown fields refused).

use serde::Serialize;
use serde::de::DeserializeOwned;

/// A body that is not the JSON of the message.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("line {line}, column {column}: {what}")]
pub struct JsonError {
    /// Line, from 1.
    pub line: usize,
    /// Column, from 1; 0 where the end of the body is meant.
    pub column: usize,
    /// What is wrong.
    pub what: String,
}

/// Reads a message.
pub fn read<T: DeserializeOwned>(body: &[u8]) -> Result<T, JsonError> {
    serde_json::from_slice(body).map_err(|e| {
        let text = e.to_string();
        let what = text.split(" at line ").next().unwrap_or(&text).to_owned();
        JsonError { line: e.line(), column: e.column(), what }
    })
}

/// Appends a message.
pub fn write<T: Serialize>(message: &T, out: &mut Vec<u8>) {
    // Generated messages have string keys and no failing serialisers, and a Vec takes any length.
    let done = serde_json::to_writer(&mut *out, message);
    debug_assert!(done.is_ok());
}

#[cfg(test)]
mod tests {
    use super::{read, write};
    use crate::v1::{Submit, SubmitAnswer};
    use prost::Message;

    #[test]
    fn json_and_protobuf_become_one_message() {
        let submit = Submit { user: u64::MAX, campaign: 1, round: 2, counter: 3, shakes: 4, district: 5 };
        let mut json = Vec::new();
        write(&submit, &mut json);
        assert!(String::from_utf8(json.clone()).unwrap().contains("\"18446744073709551615\""));
        assert_eq!(read::<Submit>(&json).unwrap(), submit);
        assert_eq!(Submit::decode(&submit.encode_to_vec()[..]).unwrap(), submit);
    }

    #[test]
    fn says_where_json_is_wrong() {
        let e = read::<Submit>(b"{\"campaign\": 1,\n \"shake\": 2}").unwrap_err();
        assert_eq!(e.line, 2);
        assert!(e.what.contains("shakes"), "names what would be right: {}", e.what);
        assert!(read::<Submit>(b"{\"campaign\": \"x\"}").is_err());
        assert!(read::<SubmitAnswer>(b"{\"outcome\": \"OUTCOME_WON\", \"nextCounter\": 2}").is_ok());
    }
}
