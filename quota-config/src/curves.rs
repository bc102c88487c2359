//! Release curves of a file, laid over a round's length.

use crate::file::spec_prize::{CurveSpec, PointAt, PrizeSpec};
use crate::file::value::show_duration;
use crate::problem::Sink;
use campaign::Curve;
use campaign::curve::{CurveError, Point, WHOLE};
use campaign::plan::CURVE_TAIL_MS;

/// `front-loaded`: half of it in the first fifth of the time, four fifths by half-time. Parts per billion of the
/// time, and of the units.
const FRONT_LOADED: [(u64, u64); 4] =
    [(0, 0), (200_000_000, 500_000_000), (500_000_000, 800_000_000), (WHOLE, WHOLE)];

/// The curve of a prize in a round of that length.
pub(crate) fn build(prize: &PrizeSpec, duration_ms: u64, sink: &mut Sink) -> Option<Curve> {
    let end_ms = duration_ms - CURVE_TAIL_MS;
    let share_of_time = |share: u64| (u128::from(end_ms) * u128::from(share) / u128::from(WHOLE)) as u64;
    let points = match &prize.curve.value {
        CurveSpec::Even => return Some(Curve::even(0, end_ms)),
        CurveSpec::FrontLoaded => FRONT_LOADED
            .iter()
            .map(|(time, share)| Point { at_ms: share_of_time(*time), share: *share })
            .collect(),
        CurveSpec::Points(specs) => {
            let mut points = Vec::with_capacity(specs.len());
            for (i, spec) in specs.iter().enumerate() {
                let at_ms = match spec.at.value {
                    PointAt::Ms(ms) => ms,
                    PointAt::Share(share) => share_of_time(share),
                };
                if at_ms > end_ms {
                    let what = format!(
                        "the point lies at {}, but curves end {} before the round does: at {} of {}",
                        show_duration(at_ms),
                        show_duration(CURVE_TAIL_MS),
                        show_duration(end_ms),
                        show_duration(duration_ms)
                    );
                    let path = format!("{}.curve[{i}].at", prize.path);
                    sink.error(spec.at.mark, &path, what, "move it forward, or write `end`");
                    return None;
                }
                points.push(Point { at_ms, share: spec.share });
            }
            points
        }
    };
    match Curve::new(points) {
        Ok(curve) => Some(curve),
        Err(e) => {
            note(prize, &e, sink);
            None
        }
    }
}

fn note(prize: &PrizeSpec, error: &CurveError, sink: &mut Sink) {
    let path = format!("{}.curve", prize.path);
    let (mark, path, cure) = match (error, &prize.curve.value) {
        (CurveError::Falls(i), CurveSpec::Points(points)) => (
            points[*i].at.mark,
            format!("{path}[{i}]"),
            "each point is later than the one before and releases no less",
        ),
        (CurveError::Ends { .. }, _) => (prize.curve.mark, path, "begin with share 0% and end with 100%"),
        _ => (prize.curve.mark, path, "write fewer points, or lengthen the round"),
    };
    sink.error(mark, &path, error.to_string(), cure);
}
