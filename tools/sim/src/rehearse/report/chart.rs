//! Line charts as inline SVG. Colours come from the page, so that they follow light, dark and paper.

use super::words::{LocalTime, number};
use std::fmt::Write as _;

const WIDTH: f64 = 560.0;
const HEIGHT: f64 = 220.0;
const LEFT: f64 = 64.0;
const RIGHT: f64 = 12.0;
const TOP: f64 = 12.0;
const BOTTOM: f64 = 30.0;
/// Labels on the axis of time.
const TIMES: u64 = 4;

/// A line: its class in the page's style, and its values at the end of each step; a line begins at `start`.
pub(super) struct Line<'a> {
    pub class: &'static str,
    pub start: Option<f64>,
    pub values: Vec<f64>,
    pub label: &'a str,
}

/// A chart over time.
pub(super) struct Chart<'a> {
    pub title: &'a str,
    pub from_ms: u64,
    pub step_ms: u64,
    pub lines: Vec<Line<'a>>,
    /// How values of the upright axis are written.
    pub show: fn(f64) -> String,
}

/// A count for an axis: `1,200`, `35 k`, `1.2 M`.
pub(super) fn count(value: f64) -> String {
    match value {
        v if v >= 10_000_000.0 => format!("{:.0} M", v / 1e6),
        v if v >= 1_000_000.0 => format!("{:.1} M", v / 1e6),
        v if v >= 10_000.0 => format!("{:.0} k", v / 1e3),
        v => number(v.round() as u64),
    }
}

/// A share in percent, for an axis.
pub(super) fn share(value: f64) -> String {
    if value >= 0.1 { format!("{:.0} %", value * 100.0) } else { format!("{:.2} %", value * 100.0) }
}

/// The next round number: 1, 2 or 5 times a power of ten.
fn round_up(value: f64) -> f64 {
    if value <= 0.0 {
        return 1.0;
    }
    let power = 10f64.powf(value.log10().floor());
    let factor = [1.0, 2.0, 5.0].into_iter().find(|f| f * power >= value * 0.999_999).unwrap_or(10.0);
    factor * power
}

/// The chart; empty when there is nothing to draw.
pub(super) fn svg(chart: &Chart<'_>, time: &LocalTime<'_>) -> String {
    let steps = chart.lines.iter().map(|l| l.values.len()).max().unwrap_or(0);
    if steps == 0 {
        return String::new();
    }
    let most = chart.lines.iter().flat_map(|l| &l.values).copied().fold(0.0, f64::max);
    let top = round_up(most);
    let x = |step: f64| LEFT + (WIDTH - LEFT - RIGHT) * step / steps as f64;
    let y = |value: f64| HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * (value / top).min(1.0);
    let mut out = format!(
        "<svg viewBox=\"0 0 {WIDTH} {HEIGHT}\" role=\"img\" aria-label=\"{}\">",
        super::page::escaped(chart.title)
    );
    for i in 0..=4 {
        let value = top * f64::from(i) / 4.0;
        let at = y(value);
        let _ = write!(
            out,
            "<line class=\"grid\" x1=\"{LEFT}\" x2=\"{:.1}\" y1=\"{at:.1}\" y2=\"{at:.1}\"/><text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">{}</text>",
            WIDTH - RIGHT,
            LEFT - 6.0,
            at + 4.0,
            (chart.show)(value)
        );
    }
    for i in 0..=TIMES {
        let step = steps as f64 * i as f64 / TIMES as f64;
        let ms = chart.from_ms + (step * chart.step_ms as f64) as u64;
        let anchor = ["start", "middle", "end"][if i == 0 {
            0
        } else if i == TIMES {
            2
        } else {
            1
        }];
        let _ = write!(
            out,
            "<text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"{anchor}\">{}</text>",
            x(step),
            HEIGHT - 10.0,
            time.show(ms)
        );
    }
    for line in &chart.lines {
        let _ = write!(out, "<polyline class=\"{}\" points=\"", line.class);
        if let Some(start) = line.start {
            let _ = write!(out, "{:.1},{:.1} ", x(0.0), y(start));
        }
        for (i, value) in line.values.iter().enumerate() {
            let _ = write!(out, "{:.1},{:.1} ", x(i as f64 + 1.0), y(*value));
        }
        let _ = write!(out, "\"><title>{}</title></polyline>", super::page::escaped(line.label));
    }
    out + "</svg>"
}

#[cfg(test)]
mod tests {
    use super::{Chart, Line, count, round_up, svg};
    use crate::rehearse::report::words::LocalTime;

    #[test]
    fn axes_end_at_round_numbers() {
        assert_eq!(
            [0.0, 0.003, 1.0, 1.2, 37.0, 5_000.0].map(round_up),
            [1.0, 0.005, 1.0, 2.0, 50.0, 5_000.0]
        );
        assert_eq!([12.0, 12_345.0, 1_250_000.0, 12e6].map(count), ["12", "12 k", "1.2 M", "12 M"]);
    }

    #[test]
    fn draws_what_it_is_given_and_nothing_of_nothing() {
        let line = |values: Vec<f64>| Line { class: "a", start: Some(0.0), values, label: "<won>" };
        let chart =
            |values| Chart { title: "t", from_ms: 0, step_ms: 1_000, lines: vec![line(values)], show: count };
        let time = LocalTime::new(&[(0, 0)]);
        assert_eq!(svg(&chart(vec![]), &time), "");
        let text = svg(&chart(vec![5.0, 10.0]), &time);
        assert!(text.contains("64.0,190.0 306.0,101.0 548.0,12.0"), "{text}");
        assert!(text.contains("&lt;won&gt;") && text.contains("00:00:02"));
    }
}
