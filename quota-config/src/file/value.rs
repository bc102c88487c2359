//! The words of a campaign file: whole numbers, yuan, durations, percentages. All are read from their decimal
//! text into integers; no float is ever in between.

use super::reader::Wrong;
use crate::bounds::{DURATION_MS_MAX, UNITS_MAX};
use campaign::Fen;
use campaign::curve::WHOLE;

/// Parser of a whole number within bounds.
pub(crate) fn whole(min: u64, max: u64) -> impl Fn(&str) -> Result<u64, Wrong> {
    move |text| {
        let cure = || format!("write a whole number from {min} to {max} in digits");
        if text.is_empty() || !text.bytes().all(|b| b.is_ascii_digit()) {
            return Err(Wrong::new(format!("`{text}` is not a whole number"), cure()));
        }
        match text.parse::<u64>() {
            Ok(n) if (min..=max).contains(&n) => Ok(n),
            _ => Err(Wrong::new(format!("{text} is out of range"), cure())),
        }
    }
}

/// Parser of a `u32` of at least `min`.
pub(crate) fn whole32(min: u32) -> impl Fn(&str) -> Result<u32, Wrong> {
    move |text| whole(u64::from(min), u64::from(u32::MAX))(text).map(|n| n as u32)
}

/// Units of a tranche.
pub(crate) fn units(text: &str) -> Result<u64, Wrong> {
    whole(1, UNITS_MAX)(text)
}

/// Yuan with at most two decimals: `8`, `8.8`, `8.88`.
pub(crate) fn yuan(text: &str) -> Result<Fen, Wrong> {
    let cure = "write yuan with at most two decimals, as in 8.88";
    let wrong = |what: String| Wrong::new(what, cure);
    match decimal(text, 2) {
        Ok(fen) => {
            i64::try_from(fen).map(Fen).map_err(|_| wrong(format!("{text} yuan is more than can be counted")))
        }
        Err(NotDecimal::Places) => Err(wrong(format!("{text} yuan has more than two decimals"))),
        Err(NotDecimal::Text) => Err(wrong(format!("`{text}` is not an amount in yuan"))),
        Err(NotDecimal::Large) => Err(wrong(format!("{text} yuan is more than can be counted"))),
    }
}

/// A share as a percentage, in parts per billion: `60%`, `2.5 %`.
pub(crate) fn share(text: &str) -> Result<u64, Wrong> {
    let wrong = || Wrong::new(format!("`{text}` is not a share"), "write 0% to 100%, as in 60% or 2.5%");
    let number = text.strip_suffix('%').ok_or_else(wrong)?.trim_end();
    let ppb = decimal(number, 7).map_err(|_| wrong())?;
    u64::try_from(ppb).ok().filter(|p| *p <= WHOLE).ok_or_else(wrong)
}

/// A catch-up speed: whole percent, from the curve's own speed to a hundred times it.
pub(crate) fn catch_up(text: &str) -> Result<u32, Wrong> {
    let cure = "write 100% to 10000%, as in 200%";
    let wrong = || Wrong::new(format!("`{text}` is not a catch-up speed"), cure);
    let number = text.strip_suffix('%').ok_or_else(wrong)?.trim_end();
    whole(100, 10_000)(number).map(|n| n as u32).map_err(|_| wrong())
}

/// A duration in ms: one or more of number and unit, largest first: `1500ms`, `30s`, `5m`, `1h30m`, `2d`.
pub(crate) fn duration_ms(text: &str) -> Result<u64, Wrong> {
    const UNITS: [(&str, u64); 5] =
        [("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1_000), ("ms", 1)];
    let cure = "write a number with its unit (ms, s, m, h or d), as in 1500ms, 30s or 1h30m";
    let wrong = |what: String| Wrong::new(what, cure);
    let mut rest = text;
    let (mut total, mut last) = (0u64, u64::MAX);
    if rest.is_empty() {
        return Err(wrong("an empty duration".into()));
    }
    while !rest.is_empty() {
        let digits = rest.len() - rest.trim_start_matches(|c: char| c.is_ascii_digit()).len();
        let (number, behind) = rest.split_at(digits);
        let letters = behind.find(|c: char| c.is_ascii_digit()).unwrap_or(behind.len());
        let (unit, next) = behind.split_at(letters);
        let unit_ms = UNITS.iter().find(|(name, _)| *name == unit).map(|u| u.1);
        let (Ok(number), Some(unit_ms)) = (number.parse::<u64>(), unit_ms) else {
            return Err(wrong(format!("`{text}` is not a duration")));
        };
        if unit_ms >= last {
            return Err(wrong(format!("`{text}`: its units do not go from large to small")));
        }
        let part = number.checked_mul(unit_ms).and_then(|ms| total.checked_add(ms));
        total = match part {
            Some(sum) if sum <= DURATION_MS_MAX => sum,
            _ => return Err(wrong(format!("`{text}` is longer than ten years"))),
        };
        (last, rest) = (unit_ms, next);
    }
    Ok(total)
}

/// Parser of a duration within bounds.
pub(crate) fn duration_within(min_ms: u64, max_ms: u64) -> impl Fn(&str) -> Result<u64, Wrong> {
    move |text| {
        let ms = duration_ms(text)?;
        if (min_ms..=max_ms).contains(&ms) {
            return Ok(ms);
        }
        let cure = format!("write {} to {}", show_duration(min_ms), show_duration(max_ms));
        Err(Wrong::new(format!("{text} is out of range"), cure))
    }
}

/// A duration as a file would write it.
pub(crate) fn show_duration(ms: u64) -> String {
    match ms {
        0 => "0s".to_string(),
        _ if ms.is_multiple_of(86_400_000) => format!("{}d", ms / 86_400_000),
        _ if ms.is_multiple_of(3_600_000) => format!("{}h", ms / 3_600_000),
        _ if ms.is_multiple_of(60_000) => format!("{}m", ms / 60_000),
        _ if ms.is_multiple_of(1_000) => format!("{}s", ms / 1_000),
        _ => format!("{ms}ms"),
    }
}

enum NotDecimal {
    Text,
    Places,
    Large,
}

/// A decimal number times 10^places, exactly.
fn decimal(text: &str, places: usize) -> Result<u128, NotDecimal> {
    let digits = |part: &str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit());
    let (whole, fraction) = text.split_once('.').unwrap_or((text, "0"));
    if !digits(whole) || !digits(fraction) {
        return Err(NotDecimal::Text);
    }
    if fraction.len() > places {
        return Err(NotDecimal::Places);
    }
    if whole.len() > 30 {
        return Err(NotDecimal::Large);
    }
    let mut value = 0u128;
    for b in whole.bytes().chain(fraction.bytes()) {
        value = value * 10 + u128::from(b - b'0');
    }
    // At most 30 + 7 digits: below 2^128.
    Ok(value * 10u128.pow((places - fraction.len()) as u32))
}

#[cfg(test)]
mod tests {
    use super::{catch_up, duration_ms, share, show_duration, whole, yuan};
    use campaign::Fen;
    use proptest::prelude::*;

    #[test]
    fn yuan_are_exact() {
        assert_eq!(yuan("8.88"), Ok(Fen(888)));
        assert_eq!(yuan("0.5"), Ok(Fen(50)));
        assert_eq!(yuan("36000"), Ok(Fen(3_600_000)));
        assert_eq!(yuan("92233720368547758.07"), Ok(Fen(i64::MAX)));
        for bad in ["", ".5", "5.", "-1", "+1", "1e3", "1,000", "0x10", "8.8 8", "１"] {
            assert!(yuan(bad).unwrap_err().what.contains("not an amount"), "{bad}");
        }
        assert!(yuan("8.888").unwrap_err().what.contains("more than two decimals"));
        assert!(yuan("92233720368547758.08").unwrap_err().what.contains("more than can be counted"));
        assert!(yuan(&"9".repeat(400)).unwrap_err().what.contains("more than can be counted"));
    }

    #[test]
    fn durations_add_up() {
        assert_eq!(duration_ms("1500ms"), Ok(1_500));
        assert_eq!(duration_ms("1h30m"), Ok(5_400_000));
        assert_eq!(duration_ms("2d1s5ms"), Ok(172_801_005));
        for bad in
            ["", "5", "s", "5 s", "1.5s", "30m1h", "5s5s", "-5s", "5x", "99999999999999999999s", "4000d"]
        {
            assert!(duration_ms(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn percentages() {
        assert_eq!(share("2.5%"), Ok(25_000_000));
        assert_eq!(share("100 %"), Ok(1_000_000_000));
        assert!(share("100.1%").is_err());
        assert!(share("60").is_err());
        assert_eq!(catch_up("200 %"), Ok(200));
        assert!(catch_up("50%").is_err());
        assert!(whole(1, 10)("11").is_err());
        assert!(whole(1, 10)("ten").is_err());
    }

    proptest! {
        #[test]
        fn yuan_round_trip(fen in 0..=i64::MAX) {
            prop_assert_eq!(yuan(&Fen(fen).to_string()), Ok(Fen(fen)));
        }

        #[test]
        fn durations_round_trip(ms in 0u64..300_000_000_000) {
            prop_assert_eq!(duration_ms(&show_duration(ms)), Ok(ms));
        }

        #[test]
        fn nonsense_is_an_error_not_a_panic(text in "[0-9.a-z% ]{0,40}") {
            let _ = (yuan(&text), duration_ms(&text), share(&text), catch_up(&text));
        }
    }
}
