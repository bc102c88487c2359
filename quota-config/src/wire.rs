//! How ids and numbers stand in JSON: numbers of more than 32 bits as text, because many readers of JSON keep
//! only 53 bits; ids of 32 bits as numbers; hashes in hexadecimal.

use campaign::{CampaignId, SeqNo, VendorId};
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serializer};

/// Serializes an id of 32 bits as a number, and reads it back.
macro_rules! id_module {
    ($(#[$doc:meta])* $module:ident, $id:ident) => {
        $(#[$doc])*
        pub(crate) mod $module {
            use super::*;

            pub(crate) fn serialize<S: Serializer>(id: &$id, s: S) -> Result<S::Ok, S::Error> {
                s.serialize_u32(id.0)
            }

            pub(crate) fn deserialize<'de, D: Deserializer<'de>>(d: D) -> Result<$id, D::Error> {
                u32::deserialize(d).map($id)
            }
        }
    };
}

id_module!(
    /// [`CampaignId`].
    campaign_id,
    CampaignId
);
id_module!(
    /// [`VendorId`].
    vendor_id,
    VendorId
);

/// [`CampaignId`] that may be missing.
pub(crate) mod campaign_id_opt {
    use super::*;

    pub(crate) fn serialize<S: Serializer>(id: &Option<CampaignId>, s: S) -> Result<S::Ok, S::Error> {
        match id {
            Some(id) => s.serialize_some(&id.0),
            None => s.serialize_none(),
        }
    }
}

/// [`u64`] as text.
pub(crate) mod number {
    use super::*;

    pub(crate) fn serialize<S: Serializer>(n: &u64, s: S) -> Result<S::Ok, S::Error> {
        s.collect_str(n)
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(d: D) -> Result<u64, D::Error> {
        let text = String::deserialize(d)?;
        text.parse().map_err(|_| D::Error::custom(format!("`{text}` is not a whole number in text")))
    }
}

/// [`u64`] as text, that may be missing.
pub(crate) mod number_opt {
    use super::*;

    pub(crate) fn serialize<S: Serializer>(n: &Option<u64>, s: S) -> Result<S::Ok, S::Error> {
        match n {
            Some(n) => s.serialize_some(&n.to_string()),
            None => s.serialize_none(),
        }
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(d: D) -> Result<Option<u64>, D::Error> {
        let text = Option::<String>::deserialize(d)?;
        let parse = |t: String| {
            t.parse().map_err(|_| D::Error::custom(format!("`{t}` is not a whole number in text")))
        };
        text.map(parse).transpose()
    }
}

/// [`SeqNo`] as text.
pub(crate) mod seq_no {
    use super::*;

    pub(crate) fn serialize<S: Serializer>(seq_no: &SeqNo, s: S) -> Result<S::Ok, S::Error> {
        s.collect_str(seq_no)
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(d: D) -> Result<SeqNo, D::Error> {
        number::deserialize(d).map(SeqNo)
    }
}

/// [`SeqNo`] as text, that may be missing.
pub(crate) mod seq_no_opt {
    use super::*;

    pub(crate) fn serialize<S: Serializer>(seq_no: &Option<SeqNo>, s: S) -> Result<S::Ok, S::Error> {
        number_opt::serialize(&seq_no.map(|n| n.0), s)
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(d: D) -> Result<Option<SeqNo>, D::Error> {
        Ok(number_opt::deserialize(d)?.map(SeqNo))
    }
}

/// A SHA-256 in hexadecimal.
pub(crate) mod sha256 {
    use super::*;

    pub(crate) fn serialize<S: Serializer>(sha256: &[u8; 32], s: S) -> Result<S::Ok, S::Error> {
        s.collect_str(&Hex(sha256))
    }
}

/// Bytes in hexadecimal.
pub(crate) struct Hex<'a>(pub &'a [u8]);

impl std::fmt::Display for Hex<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}
