//! The words of a command line, checked before anything is sent: a slip is told at once, and with what would be right.

use std::str::FromStr;

/// Longest reason, in bytes, as the history keeps it.
const REASON_BYTES_MAX: usize = 2_000;

/// A prize of a round: `2/11` is prize 11 of round 2.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct PrizeAt {
    round: u32,
    prize: u32,
}

impl FromStr for PrizeAt {
    type Err = String;

    fn from_str(text: &str) -> Result<PrizeAt, String> {
        let parts = text.split_once('/').and_then(|(round, prize)| Some((number(round)?, number(prize)?)));
        let (round, prize) = parts.ok_or("write ROUND/PRIZE, as in `2/11` for prize 11 of round 2")?;
        Ok(PrizeAt { round, prize })
    }
}

impl std::fmt::Display for PrizeAt {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.round, self.prize)
    }
}

/// What a pause or a stop is about.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Target {
    /// The whole campaign.
    Campaign,
    /// A round.
    Round(u32),
    /// A vendor's prizes.
    Vendor(u32),
    /// A prize of a round.
    Prize(PrizeAt),
}

impl FromStr for Target {
    type Err = String;

    fn from_str(text: &str) -> Result<Target, String> {
        let parts = text.split_once(':');
        let read = match parts {
            None if text == "campaign" => Some(Target::Campaign),
            Some(("round", round)) => number(round).map(Target::Round),
            Some(("vendor", vendor)) => number(vendor).map(Target::Vendor),
            Some(("prize", prize)) => prize.parse().ok().map(Target::Prize),
            _ => None,
        };
        read.ok_or_else(|| "write `campaign`, `round:2`, `vendor:3` or `prize:2/11`".to_owned())
    }
}

impl std::fmt::Display for Target {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Target::Campaign => f.write_str("campaign"),
            Target::Round(round) => write!(f, "round:{round}"),
            Target::Vendor(vendor) => write!(f, "vendor:{vendor}"),
            Target::Prize(prize) => write!(f, "prize:{prize}"),
        }
    }
}

impl Target {
    /// The target in a question: "round 2 of campaign 7".
    pub fn told(&self, campaign: u32) -> String {
        match self {
            Target::Campaign => format!("campaign {campaign}, all of it"),
            Target::Round(round) => format!("round {round} of campaign {campaign}"),
            Target::Vendor(vendor) => format!("all prizes of vendor {vendor} in campaign {campaign}"),
            Target::Prize(prize) => format!("prize {prize} of campaign {campaign}"),
        }
    }
}

/// A release speed. 0 is neither a stop nor no limit, whatever is meant by it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Speed {
    /// Units a second.
    PerSecond(u32),
    /// No limit.
    None,
    /// What the campaign file says.
    File,
}

impl FromStr for Speed {
    type Err = String;

    fn from_str(text: &str) -> Result<Speed, String> {
        match text {
            "none" => Ok(Speed::None),
            "file" => Ok(Speed::File),
            "0" => Err("write `none` for no limit, or use `pause` or `stop` to give out nothing".into()),
            _ => number(text).map(Speed::PerSecond).ok_or_else(|| {
                format!(
                    "write units a second from 1 to {}, `none` for no limit, or `file` for the file's",
                    u32::MAX
                )
            }),
        }
    }
}

/// Delivery's pace towards a vendor.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Pace {
    /// Sends a second; 0: none.
    PerSecond(u32),
    /// As the platform is configured.
    Configured,
}

impl FromStr for Pace {
    type Err = String;

    fn from_str(text: &str) -> Result<Pace, String> {
        let plain = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
        match text {
            "configured" => Ok(Pace::Configured),
            _ => text.parse().ok().filter(|_| plain).map(Pace::PerSecond).ok_or_else(|| {
                "write sends a second (0: nothing is sent), or `configured` for the configured pace".into()
            }),
        }
    }
}

/// What has a speed.
///
/// # Errors
/// How to write it.
pub fn paced(text: &str) -> Result<Target, String> {
    match text.parse() {
        Ok(target @ (Target::Prize(_) | Target::Vendor(_))) => Ok(target),
        _ => Err("write `prize:2/11` or `vendor:3`".into()),
    }
}

fn number(text: &str) -> Option<u32> {
    let plain = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    if plain { text.parse().ok().filter(|number| *number > 0) } else { None }
}

/// A number that names a campaign, a vendor or a SeqNo.
///
/// # Errors
/// What it may be.
pub fn id(text: &str) -> Result<u32, String> {
    number(text).ok_or_else(|| format!("write a whole number from 1 to {}", u32::MAX))
}

/// A SeqNo.
///
/// # Errors
/// What it may be.
pub fn seq_no(text: &str) -> Result<u64, String> {
    text.parse()
        .ok()
        .filter(|number| *number > 0)
        .ok_or_else(|| "write a SeqNo, as `history` lists them".into())
}

/// Why: for the history, so it can't be empty.
///
/// # Errors
/// What it may be.
pub fn reason(text: &str) -> Result<String, String> {
    let text = text.trim();
    if text.is_empty() || text.len() > REASON_BYTES_MAX {
        return Err(format!("a reason has 1 to {REASON_BYTES_MAX} bytes"));
    }
    Ok(text.to_owned())
}

/// The id of a proposal: it becomes a part of a path.
///
/// # Errors
/// How it looks.
pub fn proposal(text: &str) -> Result<String, String> {
    let good =
        !text.is_empty() && text.len() <= 64 && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-');
    if good { Ok(text.to_owned()) } else { Err("write it as `quotactl proposals` lists it: `p-...`".into()) }
}

/// An idempotency key.
///
/// # Errors
/// How it looks.
pub fn key(text: &str) -> Result<String, String> {
    let good = !text.is_empty() && text.len() <= 128 && text.bytes().all(|b| b.is_ascii_graphic());
    if good { Ok(text.to_owned()) } else { Err("1 to 128 printable ASCII characters without blanks".into()) }
}

/// A share of users in thousandths: `10%` is 100, `0.5%` is 5.
///
/// # Errors
/// What it may be.
pub fn per_mille(text: &str) -> Result<u16, String> {
    let read = || {
        let number = text.strip_suffix('%')?;
        let (whole, tenth) = number.split_once('.').unwrap_or((number, "0"));
        let tenth = if tenth.len() == 1 { tenth.parse::<u16>().ok()? } else { return None };
        if !whole.bytes().all(|b| b.is_ascii_digit()) {
            return None;
        }
        whole.parse::<u16>().ok()?.checked_mul(10)?.checked_add(tenth).filter(|n| (1..1000).contains(n))
    };
    read().ok_or_else(|| "write a share of users as `10%` or `0.5%`, from 0.1% to 99.9%".into())
}

/// Yuan in fen: `500` is 50000, `0.01` is 1.
///
/// # Errors
/// How it is written.
pub fn fen(text: &str) -> Result<i64, String> {
    let read = || {
        let (whole, part) = text.split_once('.').unwrap_or((text, "0"));
        let digits = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
        if !digits(whole) || !digits(part) || part.len() > 2 {
            return None;
        }
        let part = part.parse::<i64>().ok()? * if part.len() == 1 { 10 } else { 1 };
        whole.parse::<i64>().ok()?.checked_mul(100)?.checked_add(part)
    };
    read().ok_or_else(|| "write yuan, with at most two decimals".into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn targets_read_as_they_are_written() {
        for text in ["campaign", "round:2", "vendor:3", "prize:2/11"] {
            assert_eq!(text.parse::<Target>().unwrap().to_string(), text);
        }
        for wrong in [
            "",
            "Campaign",
            "round:",
            "round:0",
            "round:+2",
            "prize:11",
            "prize:2/",
            "shop:1",
            "vendor:4294967296",
        ] {
            assert!(wrong.parse::<Target>().is_err(), "{wrong}");
        }
        assert!(paced("vendor:3").is_ok() && paced("round:3").is_err());
    }

    #[test]
    fn a_stop_and_no_limit_are_never_the_same_word() {
        assert_eq!("20".parse(), Ok(Speed::PerSecond(20)));
        assert_eq!(("none".parse(), "file".parse()), (Ok(Speed::None), Ok(Speed::File)));
        for wrong in ["0", "", "-1", "configured", "1.5"] {
            assert!(wrong.parse::<Speed>().is_err(), "{wrong}");
        }
        assert!("0".parse::<Speed>().unwrap_err().contains("`stop`"));
        assert_eq!(("0".parse(), "configured".parse()), (Ok(Pace::PerSecond(0)), Ok(Pace::Configured)));
        for wrong in ["none", "", "-1", "+1"] {
            assert!(wrong.parse::<Pace>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn shares_and_money_are_exact() {
        assert_eq!(["10%", "0.5%", "99.9%", "0.1%"].map(|t| per_mille(t).unwrap()), [100, 5, 999, 1]);
        for wrong in ["10", "0%", "100%", "0.55%", "-1%", "%", "+1%", "1.%"] {
            assert!(per_mille(wrong).is_err(), "{wrong}");
        }
        assert_eq!(["500", "0.01", "8.8"].map(|t| fen(t).unwrap()), [50_000, 1, 880]);
        for wrong in ["", "-1", "1.001", ".5", "1.", "1e3", "99999999999999999999"] {
            assert!(fen(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn what_becomes_part_of_a_path_is_plain() {
        assert!(proposal("p-0123456789ab").is_ok());
        for wrong in ["", "../x", "p 1", "p?x"] {
            assert!(proposal(wrong).is_err(), "{wrong}");
        }
        assert!(reason("  ").is_err());
        assert_eq!(reason(" ok ").unwrap(), "ok");
    }
}
