//! Numbers and times as people read them.

const DAY_MS: i64 = 86_400_000;

/// Times in the campaign's time zone, from the local days that its plan has. A day on which clocks change is read as
/// if they did not.
pub(in crate::rehearse) struct LocalTime<'a> {
    days: &'a [(u64, u32)],
}

impl<'a> LocalTime<'a> {
    pub fn new(days: &'a [(u64, u32)]) -> LocalTime<'a> {
        LocalTime { days }
    }

    /// Local day (since 1970-01-01) and ms within it.
    fn local(&self, ms: u64) -> (i64, i64) {
        let i = self.days.partition_point(|d| d.0 <= ms).saturating_sub(1);
        let (start, day) = self.days.get(i).copied().unwrap_or((0, 0));
        let since = ms as i64 - start as i64;
        (i64::from(day) + since.div_euclid(DAY_MS), since.rem_euclid(DAY_MS))
    }

    /// `20:03:12`, with the date in front on another day than the first.
    pub fn show(&self, ms: u64) -> String {
        let (day, in_day) = self.local(ms);
        let s = in_day / 1_000;
        let clock = format!("{:02}:{:02}:{:02}", s / 3_600, s / 60 % 60, s % 60);
        let first = self.days.first().map_or(0, |d| i64::from(d.1));
        if day == first { clock } else { format!("{} {clock}", date(day)) }
    }

    /// `2026-02-16 20:03:12`.
    pub fn show_with_date(&self, ms: u64) -> String {
        let (day, in_day) = self.local(ms);
        let s = in_day / 1_000;
        format!("{} {:02}:{:02}:{:02}", date(day), s / 3_600, s / 60 % 60, s % 60)
    }
}

/// A day since 1970-01-01 in the Gregorian calendar (Hinnant, 'chrono-compatible low-level date algorithms', 2013).
fn date(day: i64) -> String {
    let z = day + 719_468;
    let (era, of_era) = (z.div_euclid(146_097), z.rem_euclid(146_097));
    let year = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year + year / 4 - year / 100);
    let month = (5 * of_year + 2) / 153;
    let of_month = of_year - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    let year = year + era * 400 + i64::from(month <= 2);
    format!("{year:04}-{month:02}-{of_month:02}")
}

/// `1,234,567`.
pub(in crate::rehearse) fn number(n: u64) -> String {
    let digits = n.to_string();
    let mut out = String::with_capacity(digits.len() * 4 / 3);
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

/// Fen as yuan, without thousandths: `1,234.56`.
pub(in crate::rehearse) fn yuan(fen: i64) -> String {
    let sign = if fen < 0 { "-" } else { "" };
    let abs = fen.unsigned_abs();
    format!("{sign}{}.{:02}", number(abs / 100), abs % 100)
}

/// A duration: `340 ms`, `12.5 s`, `3 m 20 s`, `2 h 05 m`.
pub(in crate::rehearse) fn duration(ms: u64) -> String {
    match ms {
        0..1_000 => format!("{ms} ms"),
        1_000..60_000 => format!("{}.{} s", ms / 1_000, ms % 1_000 / 100),
        60_000..3_600_000 => format!("{} m {:02} s", ms / 60_000, ms / 1_000 % 60),
        _ => format!("{} h {:02} m", ms / 3_600_000, ms / 60_000 % 60),
    }
}

/// Odds: `1 in 83`, `1 in 1.3`; `none` when nothing is won.
pub(in crate::rehearse) fn one_in(odds: f64) -> String {
    match odds {
        o if o <= 0.0 => "none".to_owned(),
        o if o > 0.1 => format!("1 in {:.1}", 1.0 / o),
        o => format!("1 in {}", number((1.0 / o).round() as u64)),
    }
}

/// A share in percent.
pub(in crate::rehearse) fn percent(part: u64, whole: u64) -> String {
    if whole == 0 { "–".to_owned() } else { format!("{:.1} %", part as f64 * 100.0 / whole as f64) }
}

#[cfg(test)]
mod tests {
    use super::{LocalTime, duration, number, one_in, yuan};

    #[test]
    fn reads_well() {
        assert_eq!(
            (number(0), number(1_000), number(1_234_567)),
            ("0".into(), "1,000".into(), "1,234,567".into())
        );
        assert_eq!((yuan(-5), yuan(123_456_700)), ("-0.05".into(), "1,234,567.00".into()));
        let all = [40, 12_500, 200_000, 7_500_000].map(duration);
        assert_eq!(all, ["40 ms", "12.5 s", "3 m 20 s", "2 h 05 m"]);
        assert_eq!([one_in(0.0), one_in(0.5), one_in(1.0 / 1_200.0)], ["none", "1 in 2.0", "1 in 1,200"]);
    }

    #[test]
    fn shows_local_time() {
        // 2026-02-16 begins in Shanghai at 2026-02-15T16:00Z.
        let days = [(1_771_171_200_000, 20_500)];
        let time = LocalTime::new(&days);
        assert_eq!(time.show(1_771_243_200_000), "20:00:00");
        assert_eq!(time.show_with_date(1_771_243_261_900), "2026-02-16 20:01:01");
        assert_eq!(time.show(1_771_243_200_000 + 5 * 3_600_000), "2026-02-17 01:00:00");
        assert_eq!(time.show(1_771_171_199_999), "2026-02-15 23:59:59");
    }
}
