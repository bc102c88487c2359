//! How two processes of a cluster prove to each other that they belong together, before anything else is said.
//!
//! Both know a key. Each side sends 32 random bytes, and proves the key by an HMAC over both, the cluster's name, the
//! node that is meant and the side it stands on; so the key never crosses the wire, a proof is good for one connection
//! only, and neither side's proof can be sent back to it as its own. The listening side proves first: an address that
//! somebody else listens on by now learns nothing. What follows is neither encrypted nor signed: calls belong on a
//! network of the platform's own.
//!
//! Refused: another protocol version, another cluster, an unknown or wrong key, a node that is not the one meant,
//! a service that is not here. Each refusal says which. A greeting that is cut short is forgotten with its connection.

use super::ServiceSet;
use super::limits::{GREETING_FRAME_MAX, NAME_BYTES_MAX};
use super::wire::{self, CallKind, put_message, v1};
use crate::error::Code;
use crate::{PROTOCOL_VERSION, v1 as play};
use hmac::{Hmac, Mac};
use prost::Message;
use sha2::Sha256;
use std::fmt;

/// Shortest key taken: as long as the hash.
pub const CALL_KEY_BYTES_MIN: usize = 32;

const NONCE: usize = 32;

/// A key that the processes of a cluster share.
#[derive(Clone)]
pub struct CallKey {
    id: String,
    mac: Hmac<Sha256>,
}

impl fmt::Debug for CallKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CallKey").field("id", &self.id).finish_non_exhaustive()
    }
}

/// Why these keys can't be used.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum CallKeyError {
    /// It could be guessed from one proof.
    #[error("call key {id:?} has {bytes} bytes, at least {CALL_KEY_BYTES_MIN} are needed")]
    Short {
        /// Which key.
        id: String,
        /// Its length.
        bytes: usize,
    },
    /// An id that doesn't fit a greeting.
    #[error("a call key id has 1 to {NAME_BYTES_MAX} bytes, {0:?} does not")]
    Id(String),
    /// Nothing to prove with.
    #[error("there is no call key; at least one is needed")]
    None,
}

impl CallKey {
    /// A key from its secret; the secret itself is not kept.
    ///
    /// # Errors
    /// When id or secret can't serve.
    pub fn new(id: impl Into<String>, secret: &[u8]) -> Result<CallKey, CallKeyError> {
        let id = id.into();
        if id.is_empty() || id.len() > NAME_BYTES_MAX {
            return Err(CallKeyError::Id(id));
        }
        let short = |id: String| CallKeyError::Short { id, bytes: secret.len() };
        if secret.len() < CALL_KEY_BYTES_MIN {
            return Err(short(id));
        }
        let mac = <Hmac<Sha256> as Mac>::new_from_slice(secret).map_err(|_| short(id.clone()))?;
        Ok(CallKey { id, mac })
    }

    fn proof(&self, side: Side, talk: &Talk) -> Hmac<Sha256> {
        let mut mac = self.mac.clone();
        mac.update(b"hongbao-call\0");
        mac.update(&[side as u8]);
        mac.update(&talk.to_node.to_le_bytes());
        mac.update(&talk.services.to_le_bytes());
        mac.update(&talk.client);
        mac.update(&talk.server);
        // Lengths keep two names from being read as other two.
        mac.update(&[talk.cluster.len() as u8]);
        mac.update(talk.cluster.as_bytes());
        mac.update(talk.from.as_bytes());
        mac
    }
}

/// Who belongs to the cluster: its name, and the keys that prove it.
#[derive(Clone, Debug)]
pub struct Cluster {
    name: String,
    keys: Vec<CallKey>,
}

impl Cluster {
    /// A cluster. The first key is used to connect, every one of them is taken. To rotate: add the new key behind
    /// the old one everywhere, then put it in front everywhere, then leave the old one out.
    ///
    /// # Errors
    /// When there is no key, or the name is too long for a greeting.
    pub fn new(name: impl Into<String>, keys: Vec<CallKey>) -> Result<Cluster, CallKeyError> {
        let name = name.into();
        if name.is_empty() || name.len() > NAME_BYTES_MAX {
            return Err(CallKeyError::Id(name));
        }
        if keys.is_empty() {
            return Err(CallKeyError::None);
        }
        Ok(Cluster { name, keys })
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }
}

#[derive(Clone, Copy)]
enum Side {
    Client = 1,
    Server = 2,
}

/// What both proofs are about.
struct Talk {
    cluster: String,
    from: String,
    to_node: u32,
    services: u32,
    client: [u8; NONCE],
    server: [u8; NONCE],
}

/// Why a greeting came to nothing.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum GreetingError {
    /// The other side's words.
    #[error("refused: {0}")]
    Refused(String),
    /// Bytes or frames that are no greeting.
    #[error("{0}")]
    Nonsense(String),
    /// It does not know the key.
    #[error("whoever listens there does not know the cluster's key")]
    Stranger,
}

/// Random bytes for one greeting.
pub(super) fn nonce() -> Result<[u8; NONCE], getrandom::Error> {
    let mut bytes = [0; NONCE];
    getrandom::fill(&mut bytes)?;
    Ok(bytes)
}

/// The connecting side.
pub(super) struct Caller<'a> {
    key: &'a CallKey,
    talk: Talk,
    proved: bool,
}

impl<'a> Caller<'a> {
    /// Begins: appends the first frame.
    pub fn begin(
        cluster: &'a Cluster,
        from: &str,
        to_node: u16,
        services: u32,
        nonce: [u8; NONCE],
        out: &mut Vec<u8>,
    ) -> Self {
        // `Cluster::new` takes no empty list.
        let key = &cluster.keys[0];
        let from: String = from.chars().take(NAME_BYTES_MAX / 4).collect();
        let hello = v1::Hello {
            protocol_version: PROTOCOL_VERSION,
            cluster: cluster.name.clone(),
            key_id: key.id.clone(),
            nonce: nonce.to_vec(),
            from: from.clone(),
            to_node: to_node.into(),
            services,
        };
        put_message(out, CallKind::Hello, 0, &hello);
        let talk = Talk {
            cluster: cluster.name.clone(),
            from,
            to_node: to_node.into(),
            services,
            client: nonce,
            server: [0; NONCE],
        };
        Self { key, talk, proved: false }
    }

    /// Takes a frame of the other side; true when the connection is open.
    pub fn take(&mut self, kind: CallKind, body: &[u8], out: &mut Vec<u8>) -> Result<bool, GreetingError> {
        match (kind, self.proved) {
            (CallKind::Challenge, false) => {
                let challenge = v1::Challenge::decode(body).map_err(unreadable)?;
                self.talk.server = nonce_of(&challenge.nonce)?;
                self.key
                    .proof(Side::Server, &self.talk)
                    .verify_slice(&challenge.proof)
                    .map_err(|_| GreetingError::Stranger)?;
                let proof = self.key.proof(Side::Client, &self.talk).finalize().into_bytes().to_vec();
                put_message(out, CallKind::Proof, 0, &v1::Proof { proof });
                self.proved = true;
                Ok(false)
            }
            (CallKind::Welcome, true) => {
                let welcome = v1::Welcome::decode(body).map_err(unreadable)?;
                let missing = self.talk.services & !welcome.services;
                if missing != 0 {
                    return Err(GreetingError::Refused(format!(
                        "it does not serve {}",
                        ServiceSet::of_bits(missing)
                    )));
                }
                Ok(true)
            }
            (CallKind::Error, _) => {
                let error = play::Error::decode(body).map_err(unreadable)?;
                Err(GreetingError::Refused(error.message))
            }
            (kind, _) => Err(GreetingError::Nonsense(format!("{kind:?} is not due in a greeting"))),
        }
    }
}

/// The listening side.
pub(super) struct Doorkeeper<'a> {
    cluster: &'a Cluster,
    node: u16,
    services: u32,
    nonce: [u8; NONCE],
    talk: Option<(&'a CallKey, Talk)>,
}

impl<'a> Doorkeeper<'a> {
    pub fn new(cluster: &'a Cluster, node: u16, services: u32, nonce: [u8; NONCE]) -> Self {
        Self { cluster, node, services, nonce, talk: None }
    }

    /// Takes a frame; gives the name of whoever connected, and what he wants, once the connection is open. A refusal is
    /// appended, too.
    pub fn take(
        &mut self,
        kind: CallKind,
        body: &[u8],
        out: &mut Vec<u8>,
    ) -> Result<Option<(String, ServiceSet)>, GreetingError> {
        let taken = match (kind, self.talk.take()) {
            (CallKind::Hello, None) => self.hello(body, out).map(|()| None),
            (CallKind::Proof, Some((key, talk))) => {
                let wants = ServiceSet::of_bits(talk.services);
                self.proof(body, key, &talk, out).map(|()| Some((talk.from, wants)))
            }
            (kind, _) => {
                let text = format!("{kind:?} is not due here: a connection begins with Hello and Proof");
                Err(GreetingError::Nonsense(text))
            }
        };
        if let Err(error) = &taken {
            let mut message = Code::Forbidden.message(error.to_string());
            message.fatal = true;
            put_message(out, CallKind::Error, 0, &message);
        }
        taken
    }

    fn hello(&mut self, body: &[u8], out: &mut Vec<u8>) -> Result<(), GreetingError> {
        let hello = v1::Hello::decode(body).map_err(unreadable)?;
        let refuse = |text: String| Err(GreetingError::Refused(text));
        if hello.protocol_version != PROTOCOL_VERSION {
            let theirs = hello.protocol_version;
            return refuse(format!("protocol version {theirs} is not spoken here; {PROTOCOL_VERSION} is"));
        }
        if hello.cluster != self.cluster.name {
            let (theirs, ours) = (&hello.cluster, &self.cluster.name);
            return refuse(format!("this is a process of cluster {ours:?}, not of {theirs:?}"));
        }
        if hello.to_node != u32::from(self.node) {
            return refuse(format!("this is node {}, not node {}", self.node, hello.to_node));
        }
        let missing = hello.services & !self.services;
        if missing != 0 {
            return refuse(format!("node {} does not serve {}", self.node, ServiceSet::of_bits(missing)));
        }
        let Some(key) = self.cluster.keys.iter().find(|key| key.id == hello.key_id) else {
            return refuse(format!("call key {:?} is not known here", hello.key_id));
        };
        let talk = Talk {
            cluster: hello.cluster,
            from: hello.from,
            to_node: hello.to_node,
            services: hello.services,
            client: nonce_of(&hello.nonce)?,
            server: self.nonce,
        };
        let proof = key.proof(Side::Server, &talk).finalize().into_bytes().to_vec();
        put_message(out, CallKind::Challenge, 0, &v1::Challenge { nonce: self.nonce.to_vec(), proof });
        self.talk = Some((key, talk));
        Ok(())
    }

    fn proof(&self, body: &[u8], key: &CallKey, talk: &Talk, out: &mut Vec<u8>) -> Result<(), GreetingError> {
        let proof = v1::Proof::decode(body).map_err(unreadable)?;
        // Compares in constant time.
        key.proof(Side::Client, talk)
            .verify_slice(&proof.proof)
            .map_err(|_| GreetingError::Refused(format!("the proof of call key {:?} is wrong", key.id)))?;
        let welcome =
            v1::Welcome { services: self.services, outstanding_max: super::limits::OUTSTANDING_MAX as u32 };
        put_message(out, CallKind::Welcome, 0, &welcome);
        Ok(())
    }
}

/// A frame's kind and body, and how many bytes it takes.
type Next<'a> = ((CallKind, &'a [u8]), usize);

/// The first frame of a greeting's bytes.
pub(super) fn next(buffer: &[u8]) -> Result<Option<Next<'_>>, GreetingError> {
    let found = wire::next(buffer, GREETING_FRAME_MAX);
    let found = found.map_err(|error| GreetingError::Nonsense(error.to_string()))?;
    Ok(found.map(|((kind, _, body), used)| ((kind, body), used)))
}

fn nonce_of(bytes: &[u8]) -> Result<[u8; NONCE], GreetingError> {
    let text = || GreetingError::Nonsense(format!("a nonce has {NONCE} bytes, not {}", bytes.len()));
    bytes.try_into().map_err(|_| text())
}

fn unreadable(error: prost::DecodeError) -> GreetingError {
    GreetingError::Nonsense(format!("a message of the greeting can't be read: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn cluster(name: &str, keys: &[(&str, u8)]) -> Cluster {
        let keys = keys.iter().map(|(id, byte)| CallKey::new(*id, &[*byte; 32]).unwrap()).collect();
        Cluster::new(name, keys).unwrap()
    }

    /// Both sides over a wire that `change` may touch: the caller's end, and what the doorkeeper knows.
    fn greet(
        caller: &Cluster,
        keeper: &Cluster,
        (to, wants): (u16, u32),
        mut change: impl FnMut(&mut Vec<u8>),
    ) -> (Result<(), GreetingError>, Option<String>) {
        let mut keeper = Doorkeeper::new(keeper, 7, 0b0101, [2; 32]);
        let (mut there, mut back) = (Vec::new(), Vec::new());
        let mut caller = Caller::begin(caller, "access/1", to, wants, [1; 32], &mut there);
        let mut from = None;
        for _ in 0..4 {
            change(&mut there);
            while let Ok(Some(((kind, body), used))) = next(&there) {
                match keeper.take(kind, body, &mut back) {
                    Ok(None) => {}
                    Ok(Some((name, asked))) => {
                        assert_eq!(asked.bits(), wants);
                        from = Some(name);
                    }
                    Err(_) => {
                        there.clear();
                        break;
                    }
                }
                there.drain(..used);
            }
            while let Ok(Some(((kind, body), used))) = next(&back) {
                match caller.take(kind, body, &mut there) {
                    Ok(false) => {}
                    Ok(true) => return (Ok(()), from),
                    Err(error) => return (Err(error), from),
                }
                back.drain(..used);
            }
        }
        (Err(GreetingError::Nonsense("no end".into())), from)
    }

    fn refused(answer: (Result<(), GreetingError>, Option<String>)) -> String {
        assert_eq!(answer.1, None);
        answer.0.unwrap_err().to_string()
    }

    #[test]
    fn who_shares_a_key_gets_in_and_others_hear_why_not() {
        let ours = cluster("spring", &[("k1", 1), ("k2", 2)]);
        let same = |_: &mut Vec<u8>| ();
        assert_eq!(greet(&ours, &ours, (7, 1), same), (Ok(()), Some("access/1".into())));
        assert_eq!(greet(&cluster("spring", &[("k2", 2)]), &ours, (7, 4), same).0, Ok(()));
        assert!(refused(greet(&cluster("autumn", &[("k1", 1)]), &ours, (7, 1), same)).contains("\"spring\""));
        assert!(refused(greet(&cluster("spring", &[("k3", 1)]), &ours, (7, 1), same)).contains("\"k3\""));
        let wrong = refused(greet(&cluster("spring", &[("k1", 9)]), &ours, (7, 1), same));
        assert!(wrong.contains("does not know the cluster's key"), "{wrong}");
        assert!(refused(greet(&ours, &ours, (8, 1), same)).contains("this is node 7, not node 8"));
        assert!(refused(greet(&ours, &ours, (7, 3), same)).contains("does not serve awards"));
    }

    #[test]
    fn a_proof_is_good_for_its_own_greeting_and_side_only() {
        let ours = cluster("spring", &[("k1", 1)]);
        let (mut hello, mut challenge, mut proof, mut out) = (vec![], vec![], vec![], vec![]);
        let mut caller = Caller::begin(&ours, "x", 7, 1, [1; 32], &mut hello);
        let frame = |bytes: &[u8]| {
            let ((kind, body), _) = next(bytes).unwrap().unwrap();
            (kind, body.to_vec())
        };
        let mut keeper = Doorkeeper::new(&ours, 7, 1, [2; 32]);
        let (kind, body) = frame(&hello);
        keeper.take(kind, &body, &mut challenge).unwrap();
        let (kind, body) = frame(&challenge);
        caller.take(kind, &body, &mut proof).unwrap();
        // The same frames against another doorkeeper, whose nonce is another.
        let mut other = Doorkeeper::new(&ours, 7, 1, [3; 32]);
        let (kind, body) = frame(&hello);
        other.take(kind, &body, &mut out).unwrap();
        let (kind, body) = frame(&proof);
        assert!(other.take(kind, &body, &mut out).is_err());
        // The doorkeeper's own proof, sent back to it.
        let theirs = v1::Challenge::decode(&frame(&challenge).1[..]).unwrap().proof;
        let mirrored = v1::Proof { proof: theirs }.encode_to_vec();
        assert!(keeper.take(CallKind::Proof, &mirrored, &mut out).is_err());
    }

    #[test]
    fn keys_are_long_enough_and_not_shown() {
        assert!(CallKey::new("k", &[0; 31]).unwrap_err().to_string().contains("31 bytes"));
        assert!(CallKey::new("", &[0; 32]).is_err() && Cluster::new("c", vec![]).is_err());
        assert_eq!(format!("{:?}", CallKey::new("k", &[77; 32]).unwrap()), "CallKey { id: \"k\", .. }");
    }

    proptest! {
        /// Whatever is changed on the way, nobody gets in with it.
        #[test]
        fn a_changed_greeting_lets_nobody_in(at: prop::sample::Index, bit in 0u8..8, which in 0usize..2) {
            let ours = cluster("spring", &[("k1", 1)]);
            let mut seen = 0;
            let mut changed = false;
            let (_, from) = greet(&ours, &ours, (7, 1), |bytes| {
                if !bytes.is_empty() {
                    if seen == which {
                        // Behind the frame's head: the head is not part of what is proved.
                        let at = 9 + at.index(bytes.len() - 9);
                        bytes[at] ^= 1 << bit;
                        changed = true;
                    }
                    seen += 1;
                }
            });
            prop_assert!(changed && from.is_none());
        }
    }
}
