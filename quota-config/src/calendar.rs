//! Times of a campaign: names of zones, local times and the instants that they mean, local days.
//!
//! A local time that a change of clocks skips or repeats is refused, never guessed: two people who read the same
//! file must open the round at the same instant. The zone data is compiled in, so that every node reads alike.

use crate::bounds::DAYS_MAX;
use crate::file::reader::Wrong;
use crate::file::value::duration_ms;
use crate::problem::nearest;
use jiff::civil::{Date, DateTime, Time};
use jiff::tz::{AmbiguousOffset, TimeZone};
use jiff::{Timestamp, ToSpan as _};

/// A time zone by name.
#[derive(Clone)]
pub(crate) struct Zone {
    pub name: String,
    zone: TimeZone,
}

/// When something is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Moment {
    /// An instant, ms UTC.
    At(u64),
    /// So many ms behind the start.
    Relative(u64),
}

impl Moment {
    /// The instant, when the start is known.
    pub fn resolve(self, start_ms: u64) -> u64 {
        match self {
            Moment::At(ms) => ms,
            Moment::Relative(ms) => start_ms.saturating_add(ms),
        }
    }
}

impl Zone {
    /// UTC, where the file names no zone that can be used.
    pub fn utc() -> Zone {
        Zone { name: "UTC".into(), zone: TimeZone::UTC }
    }

    /// The instant as people there write it, to the second.
    pub fn show(&self, ms: u64) -> String {
        let local = i64::try_from(ms).ok().and_then(|ms| Timestamp::from_millisecond(ms).ok());
        local.map_or_else(
            || format!("{ms} ms UTC"),
            |t| t.to_zoned(self.zone.clone()).strftime("%Y-%m-%d %H:%M:%S").to_string(),
        )
    }

    /// The instant as people there write it, without the date where that is the date of `near_ms` too.
    pub fn show_near(&self, ms: u64, near_ms: u64) -> String {
        let (text, near) = (self.show(ms), self.show(near_ms));
        match (text.split_once(' '), near.split_once(' ')) {
            (Some((date, time)), Some((same, _))) if date == same => time.to_string(),
            _ => text,
        }
    }

    /// The same local time so many years later (28 February for 29 where there is none); the instant itself
    /// where that is out of range.
    pub fn years_later(&self, ms: u64, years: i16) -> u64 {
        let later = i64::try_from(ms).ok().and_then(|ms| Timestamp::from_millisecond(ms).ok());
        let later = later.and_then(|t| t.to_zoned(self.zone.clone()).checked_add(years.years()).ok());
        later.and_then(|z| u64::try_from(z.timestamp().as_millisecond()).ok()).unwrap_or(ms)
    }

    /// The hour of the day there.
    pub fn hour(&self, ms: u64) -> Option<i8> {
        let local = Timestamp::from_millisecond(i64::try_from(ms).ok()?).ok()?;
        Some(local.to_zoned(self.zone.clone()).hour())
    }

    /// The one instant of a local time.
    fn instant(&self, local: DateTime) -> Result<u64, Wrong> {
        let ambiguous = self.zone.to_ambiguous_timestamp(local);
        let cure = "write the time with its offset, as in 2026-03-29T03:30+02:00, or take another";
        let trouble = match ambiguous.offset() {
            AmbiguousOffset::Unambiguous { .. } => None,
            AmbiguousOffset::Gap { .. } => Some("does not exist"),
            AmbiguousOffset::Fold { .. } => Some("happens twice"),
        };
        if let Some(trouble) = trouble {
            let what = format!("{local} {trouble} in {}: the clocks change then", self.name);
            return Err(Wrong::new(what, cure));
        }
        let timestamp =
            ambiguous.unambiguous().map_err(|_| Wrong::new(format!("{local} is out of range"), cure))?;
        positive_ms(timestamp)
    }

    /// The local days from the one that holds `from_ms` to the one that holds `to_ms`: first instant (ms UTC) and
    /// days since 1970-01-01. A day that the zone skipped is not there. `None` when they are too many.
    pub fn days(&self, from_ms: u64, to_ms: u64) -> Option<Vec<(u64, u32)>> {
        let local = |ms: u64| {
            let timestamp = Timestamp::from_millisecond(i64::try_from(ms).ok()?).ok()?;
            Some(timestamp.to_zoned(self.zone.clone()).date())
        };
        let (mut day, last) = (local(from_ms)?, local(to_ms)?);
        let mut days: Vec<(u64, u32)> = Vec::new();
        while day <= last {
            if days.len() >= DAYS_MAX {
                return None;
            }
            let begin = day.to_zoned(self.zone.clone()).ok()?.start_of_day().ok()?;
            // A day that begins before 1970-01-01 UTC can only be the first; nothing is asked about before it.
            let begin_ms = u64::try_from(begin.timestamp().as_millisecond()).unwrap_or(0);
            let number = u32::try_from(Date::constant(1970, 1, 1).until(day).ok()?.get_days()).unwrap_or(0);
            if begin.date() == day && days.last().is_none_or(|d| d.0 < begin_ms) {
                days.push((begin_ms, number));
            }
            day = day.tomorrow().ok()?;
        }
        Some(days)
    }
}

fn positive_ms(timestamp: Timestamp) -> Result<u64, Wrong> {
    u64::try_from(timestamp.as_millisecond())
        .map_err(|_| Wrong::new(format!("{timestamp} is before 1970"), "write a time of this century"))
}

/// Parser of a zone's name.
pub(crate) fn zone(text: &str) -> Result<Zone, Wrong> {
    if let Ok(zone) = TimeZone::get(text)
        && let Some(name) = zone.iana_name()
    {
        return Ok(Zone { name: name.to_string(), zone });
    }
    let names: Vec<String> = jiff::tz::db().available().map(|name| name.as_str().to_string()).collect();
    let cure = match nearest(text, names.iter().map(String::as_str)) {
        Some(near) if !text.is_empty() => format!("did you mean `{near}`?"),
        _ => "write a name of the IANA database, as in Asia/Shanghai".to_string(),
    };
    Err(Wrong::new(format!("there is no time zone `{text}`"), cure))
}

/// Parser of a time: local (`2026-02-16 20:00`), with an offset (`2026-02-16T20:00+08:00`), or relative to the
/// start (`+20s`).
pub(crate) fn moment(text: &str, zone: &Zone) -> Result<Moment, Wrong> {
    let cure = "write a local time (2026-02-16 20:00), one with its offset (2026-02-16T20:00+08:00), \
                or a time behind the start (+20s)";
    if let Some(offset) = text.strip_prefix('+') {
        return duration_ms(offset).map(Moment::Relative).map_err(|wrong| Wrong::new(wrong.what, cure));
    }
    if let Ok(timestamp) = text.parse::<Timestamp>() {
        return positive_ms(timestamp).map(Moment::At);
    }
    let with_time = text.len() > "2026-02-16".len();
    match text.parse::<DateTime>() {
        Ok(local) if with_time => zone.instant(local).map(Moment::At),
        Ok(_) => Err(Wrong::new(format!("`{text}` is a date without a time"), cure)),
        Err(_) => Err(Wrong::new(format!("`{text}` is not a time"), cure)),
    }
}

/// Parser of a date.
pub(crate) fn date(text: &str) -> Result<Date, Wrong> {
    let wrong =
        || Wrong::new(format!("`{text}` is not a date"), "write year, month and day, as in 2026-02-10");
    if text.len() > "2026-02-10".len() {
        return Err(wrong());
    }
    text.parse().map_err(|_| wrong())
}

/// Parser of a time of day.
pub(crate) fn clock_time(text: &str) -> Result<Time, Wrong> {
    text.parse().map_err(|_| {
        Wrong::new(format!("`{text}` is not a time of day"), "write hours and minutes, as in 20:00")
    })
}

/// Openings at the same times of each day within dates.
pub(crate) struct Repeat {
    pub from: Date,
    pub to: Date,
    pub first: Time,
    pub last: Time,
    pub every_ms: u64,
}

impl Repeat {
    /// All openings by time, each with its local time for the round's name.
    pub fn openings(&self, zone: &Zone, most: usize) -> Result<Vec<(Moment, String)>, Wrong> {
        let out_of_range = |_| Wrong::new("dates out of range", "write dates of this century");
        let every = i64::try_from(self.every_ms).unwrap_or(i64::MAX).milliseconds();
        let mut openings = Vec::new();
        let mut day = self.from;
        while day <= self.to {
            let last = day.to_datetime(self.last);
            let mut local = day.to_datetime(self.first);
            while local <= last {
                if openings.len() >= most {
                    return Err(Wrong::new(
                        format!("more than {most} rounds"),
                        "shorten the dates or lengthen `every`",
                    ));
                }
                let suffix = local.strftime(" %m-%d %H:%M").to_string();
                openings.push((Moment::At(zone.instant(local)?), suffix));
                local = local.checked_add(every).map_err(out_of_range)?;
            }
            day = day.tomorrow().map_err(out_of_range)?;
        }
        Ok(openings)
    }
}

#[cfg(test)]
mod tests {
    use super::{Moment, moment, zone};

    #[test]
    fn a_local_time_is_one_instant() {
        let shanghai = zone("Asia/Shanghai").unwrap();
        let at = Ok(Moment::At(1_771_243_200_000));
        assert_eq!(moment("2026-02-16 20:00", &shanghai), at);
        assert_eq!(moment("2026-02-16T20:00:00", &shanghai), at);
        assert_eq!(moment("2026-02-16T12:00Z", &shanghai), at);
        assert_eq!(moment("2026-02-16T13:00+01:00", &shanghai), at);
        assert_eq!(moment("+1m30s", &shanghai), Ok(Moment::Relative(90_000)));
        for bad in ["", "20:00", "2026-02-16", "2026-02-30 20:00", "tomorrow", "+", "+20", "1960-01-01 00:00"]
        {
            assert!(moment(bad, &shanghai).is_err(), "{bad}");
        }
    }

    #[test]
    fn clock_changes_are_not_guessed() {
        let berlin = zone("Europe/Berlin").unwrap();
        assert!(moment("2026-03-29 02:30", &berlin).unwrap_err().what.contains("does not exist"));
        assert!(moment("2026-10-25 02:30", &berlin).unwrap_err().what.contains("happens twice"));
        assert!(moment("2026-10-25T02:30+01:00", &berlin).is_ok());
        assert!(zone("Asia/Shanghia").err().unwrap().cure.contains("Asia/Shanghai"));
    }

    #[test]
    fn days_are_as_long_as_they_are() {
        let berlin = zone("Europe/Berlin").unwrap();
        let Ok(Moment::At(noon)) = moment("2026-03-28 12:00", &berlin) else { panic!() };
        let days = berlin.days(noon, noon + 2 * 86_400_000).unwrap();
        assert_eq!(days.len(), 3);
        assert_eq!(days[1].1 - days[0].1, 1);
        assert_eq!(days[1].0 - days[0].0, 24 * 3_600_000);
        assert_eq!(days[2].0 - days[1].0, 23 * 3_600_000);
        // Samoa had no 30th of December 2011.
        let apia = zone("Pacific/Apia").unwrap();
        let Ok(Moment::At(noon)) = moment("2011-12-29 12:00", &apia) else { panic!() };
        let days = apia.days(noon, noon + 86_400_000).unwrap();
        assert_eq!(days.iter().map(|d| d.1 - days[0].1).collect::<Vec<_>>(), [0, 2]);
        assert!(berlin.days(noon, noon + 2_000 * 86_400_000).is_none());
    }
}
