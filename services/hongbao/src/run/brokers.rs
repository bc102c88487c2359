//! Whether Kafka's brokers are new enough.
//!
//! The client library speaks to brokers of any age and quietly does without what they lack. One thing may not be done
//! without: a producer that repeats by itself and whose session survives a broker's change (KIP-360, Kafka 2.5), or what
//! was shipped could stand in a lane twice or in another order. So each broker is asked, in Kafka's own words, which
//! versions of its calls it knows. One that does not answer, or speaks something else (TLS), is left to the client library.

use std::time::Duration;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

/// How long one broker is asked.
const PATIENCE: Duration = Duration::from_secs(2);
/// Longest answer: a broker knows about a hundred calls, of 6 bytes each.
const ANSWER_MAX: usize = 64 << 10;
/// The call `ApiVersions`, as its version 0, which every broker since 0.10 answers.
/// <https://kafka.apache.org/protocol.html#The_Messages_ApiVersions>
const API_VERSIONS: i16 = 18;
/// The call `InitProducerId`, and the version of it that came with KIP-360.
const INIT_PRODUCER_ID: i16 = 22;
const LEAST: i16 = 3;

/// A broker that is too old.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error(
    "Kafka at {broker} is too old: {found}, and version {LEAST} is needed, which Kafka has since 2.5 (deploy/ says which \
     versions were run). Update the broker, or name others in cluster.kafka"
)]
pub struct TooOld {
    broker: String,
    found: String,
}

/// Asks the brokers.
///
/// # Errors
/// The first that is too old.
pub async fn check(brokers: &[String]) -> Result<(), TooOld> {
    for broker in brokers {
        match tokio::time::timeout(PATIENCE, ask(broker)).await {
            Ok(Ok(answer)) => judge(broker, &answer)?,
            Ok(Err(error)) => {
                tracing::debug!(broker, %error, "this broker does not say which versions it knows")
            }
            Err(_) => tracing::debug!(broker, "this broker does not say which versions it knows, in time"),
        }
    }
    Ok(())
}

/// The body of a broker's answer.
async fn ask(broker: &str) -> std::io::Result<Vec<u8>> {
    let mut stream = TcpStream::connect(broker).await?;
    // Length, call, version, correlation id, and a client without a name.
    let mut call = vec![0, 0, 0, 10];
    call.extend(API_VERSIONS.to_be_bytes());
    call.extend([0, 0, 0, 0, 0, 1, 0xff, 0xff]);
    stream.write_all(&call).await?;
    let length = usize::try_from(stream.read_i32().await?).unwrap_or(usize::MAX);
    if length > ANSWER_MAX {
        return Err(std::io::Error::other(format!("an answer of {length} bytes")));
    }
    let mut answer = vec![0; length];
    stream.read_exact(&mut answer).await?;
    Ok(answer)
}

/// Looks an answer through. One that is no such answer says nothing.
fn judge(broker: &str, answer: &[u8]) -> Result<(), TooOld> {
    // Correlation id, error, number of calls; then of each call its key, least and highest version.
    let Some((head, calls)) = answer.split_at_checked(10) else { return Ok(()) };
    if head[..4] != [0, 0, 0, 1] || head[4..6] != [0, 0] {
        return Ok(());
    }
    let (calls, _) = calls.as_chunks::<6>();
    let number = |bytes: &[u8], at: usize| i16::from_be_bytes([bytes[at], bytes[at + 1]]);
    let found = match calls.iter().find(|call| number(*call, 0) == INIT_PRODUCER_ID) {
        Some(call) if number(call, 4) >= LEAST => return Ok(()),
        Some(call) => format!("it knows version {} of InitProducerId", number(call, 4)),
        None => "it does not know InitProducerId".to_owned(),
    };
    Err(TooOld { broker: broker.to_owned(), found })
}

#[cfg(test)]
mod tests {
    use super::{ask, check, judge};

    fn answer(calls: &[(i16, i16, i16)]) -> Vec<u8> {
        let mut bytes = vec![0, 0, 0, 1, 0, 0];
        bytes.extend((calls.len() as i32).to_be_bytes());
        for (key, least, most) in calls {
            [key, least, most].into_iter().for_each(|n| bytes.extend(n.to_be_bytes()));
        }
        bytes
    }

    #[test]
    fn an_old_broker_is_told_from_one_that_says_nothing() {
        assert_eq!(judge("b:1", &answer(&[(0, 0, 9), (22, 0, 3)])), Ok(()));
        assert_eq!(judge("b:1", &answer(&[(22, 0, 5)])), Ok(()));
        let old = judge("b:1", &answer(&[(0, 0, 7), (22, 0, 1)])).unwrap_err().to_string();
        assert!(old.contains("b:1") && old.contains("version 1 of InitProducerId"), "{old}");
        assert!(old.contains("2.5") && old.contains("cluster.kafka"), "{old}");
        let older = judge("b:1", &answer(&[(0, 0, 2)])).unwrap_err().to_string();
        assert!(older.contains("does not know InitProducerId"), "{older}");
        for strange in [&[][..], &[0, 0, 0, 1, 0, 35, 0, 0, 0, 0], b"HTTP/1.1 400 Bad Request\r\n\r\n"] {
            assert_eq!(judge("b:1", strange), Ok(()));
        }
    }

    #[tokio::test]
    async fn the_broker_that_tests_run_on_answers() {
        let Some(broker) = testkit::servers::kafka() else { return };
        let answered = ask(&broker).await.unwrap();
        assert!(answered.len() > 100 && answered[..6] == [0, 0, 0, 1, 0, 0], "{answered:?}");
        check(&[broker, "127.0.0.1:1".to_owned()]).await.unwrap();
    }
}
