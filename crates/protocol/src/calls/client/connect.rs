//! Making a connection: dialling, and the greeting.

use super::{CallOptions, Target};
use crate::calls::greeting::{self, Caller};
use crate::calls::socket::{read, write};
use crate::calls::{Cluster, ServiceSet};
use runtime::BackoffPolicy;
use std::time::Duration;
use tokio::net::TcpStream;

/// Between attempts to connect. Short at first: a process that restarts is back in a second or two.
pub(super) const BACKOFF: BackoffPolicy =
    BackoffPolicy { first_ms: 50, max_ms: 2_000, repeats: 1, spread_permille: 500 };

/// Connects and greets; `input` holds what came behind the greeting.
///
/// # Errors
/// Why not, for people.
pub(super) async fn connect(
    options: &CallOptions,
    target: &Target,
    cluster: &Cluster,
    (from, wants): (&str, ServiceSet),
    input: &mut Vec<u8>,
) -> Result<TcpStream, String> {
    let dial = async {
        let stream = TcpStream::connect(&target.address).await.map_err(|error| error.to_string())?;
        stream.set_nodelay(true).map_err(|error| error.to_string())?;
        greet(&stream, target, cluster, (from, wants), input).await?;
        Ok(stream)
    };
    tokio::time::timeout(Duration::from_millis(options.connect_ms.into()), dial)
        .await
        .unwrap_or_else(|_| Err(format!("no greeting within {} ms", options.connect_ms)))
}

async fn greet(
    stream: &TcpStream,
    target: &Target,
    cluster: &Cluster,
    (from, wants): (&str, ServiceSet),
    input: &mut Vec<u8>,
) -> Result<(), String> {
    let nonce = greeting::nonce().map_err(|error| format!("no random numbers: {error}"))?;
    let mut out = Vec::new();
    let mut caller = Caller::begin(cluster, from, target.node, wants.bits(), nonce, &mut out);
    loop {
        let mut sent = 0;
        while sent < out.len() {
            stream.writable().await.map_err(|error| error.to_string())?;
            sent += write(stream, &out[sent..])?;
        }
        out.clear();
        let mut used = 0;
        while let Some(((kind, body), size)) =
            greeting::next(&input[used..]).map_err(|error| error.to_string())?
        {
            used += size;
            if caller.take(kind, body, &mut out).map_err(|error| error.to_string())? {
                input.drain(..used);
                return Ok(());
            }
        }
        input.drain(..used);
        if out.is_empty() {
            stream.readable().await.map_err(|error| error.to_string())?;
            read(stream, input)?;
        }
    }
}
