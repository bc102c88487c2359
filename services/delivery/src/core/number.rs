//! The number under which a vendor knows a payout: the award id and two decimal digits of generation, 28 letters and
//! digits in all (WeChat Pay, the strictest, allows 32).

use campaign::AwardId;

/// Highest generation that two digits can say.
pub const GENERATION_MAX: u16 = 99;

/// The vendor's number of an award in a generation; `generation` is at most [`GENERATION_MAX`].
pub fn number_of(award: AwardId, generation: u16) -> String {
    debug_assert!(generation <= GENERATION_MAX);
    format!("{award}{generation:02}")
}

/// Award and generation of a vendor's number; `None` for text that [`number_of`] never makes.
pub fn parse_number(number: &str) -> Option<(AwardId, u16)> {
    if number.len() != 28 || !number.is_ascii() {
        return None;
    }
    let (award, generation) = number.split_at(26);
    if !generation.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    Some((award.parse().ok()?, generation.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::{number_of, parse_number};
    use campaign::AwardId;

    #[test]
    fn numbers_round_trip_and_nothing_else_is_taken() {
        for generation in [0, 1, 42, 99] {
            let number = number_of(AwardId(77 << 60), generation);
            assert_eq!(number.len(), 28);
            assert!(number.bytes().all(|b| b.is_ascii_alphanumeric()));
            assert_eq!(parse_number(&number), Some((AwardId(77 << 60), generation)));
        }
        for bad in
            ["", "0123456789ABCDEFGHJKMNPQRS", "0123456789ABCDEFGHJKMNPQRS+1", "0123456789ABCDEFGHJKMNPQRSé"]
        {
            assert_eq!(parse_number(bad), None, "{bad}");
        }
    }
}
