//! Regions of a campaign file: named lists of districts, and the names that a prize is limited to.

use super::reader::{At, Wrong, at, list, name, scalar};
use super::value::whole32;
use super::yaml::{Data, Node};
use crate::bounds::REGION_RANGES_MAX;
use crate::problem::{Mark, Path, Sink, nearest};
use campaign::region::REGIONS_MAX;
use campaign::{DistrictRange, Region, Regions};
use std::collections::BTreeMap;

/// A region and where it stands.
pub(crate) struct RegionSpec {
    pub region: Region,
    pub mark: Mark,
}

/// What prizes may refer to: places of regions in the plan's list by their names, those with mistakes too.
pub(crate) type RegionNames = BTreeMap<String, usize>;

/// Reads the regions, by name. Districts with mistakes are left out; the mistakes are in the sink.
pub(crate) fn read_regions(
    node: &Node<'_>,
    path: &Path<'_>,
    sink: &mut Sink,
) -> Option<(Vec<RegionSpec>, RegionNames)> {
    let Data::Map(entries) = &node.data else {
        let what = format!("{} where a map belongs", node.kind());
        sink.error(node.mark, path, what, "write `name:` and behind it a list of districts");
        return None;
    };
    let mut regions: BTreeMap<String, RegionSpec> = BTreeMap::new();
    let mut ranges = 0;
    for entry in entries {
        let path = path.key(&entry.key);
        let title = match name(&entry.key) {
            Ok(title) => title,
            Err(wrong) => {
                sink.error(entry.mark, &path, wrong.what, wrong.cure);
                continue;
            }
        };
        let districts = read_districts(&entry.value, &path, sink);
        ranges += districts.len();
        if let Some(first) = regions.get(&title) {
            let what = format!("the region stands twice, first in line {}", first.mark.line);
            sink.error(entry.mark, &path, what, "keep one of them");
            continue;
        }
        let region = Region { name: title.clone(), districts };
        regions.insert(title, RegionSpec { region, mark: entry.mark });
    }
    if regions.len() > REGIONS_MAX {
        let what = format!("{} regions", regions.len());
        sink.error(node.mark, path, what, format!("a campaign has at most {REGIONS_MAX}"));
    }
    if ranges > REGION_RANGES_MAX {
        let what = format!("{ranges} districts and ranges in all regions together");
        let cure = format!("write at most {REGION_RANGES_MAX}: join neighbours into ranges");
        sink.error(node.mark, path, what, cure);
    }
    let names = regions.keys().enumerate().map(|(i, name)| (name.clone(), i)).collect();
    Some((regions.into_values().collect(), names))
}

/// Districts of a region, rising.
fn read_districts(node: &Node<'_>, path: &Path<'_>, sink: &mut Sink) -> Vec<DistrictRange> {
    let Some(nodes) = list(node, path, sink) else { return Vec::new() };
    if nodes.is_empty() {
        let cure = "list at least one district or range, as in [110101, 310000-319999]";
        sink.error(node.mark, path, "a region without districts", cure);
    }
    let mut ranges = Vec::with_capacity(nodes.len().min(REGION_RANGES_MAX));
    for (i, node) in nodes.iter().enumerate() {
        let range = at(scalar(district_range))(node, &path.index(i), sink);
        ranges.extend(range.map(|range| (i, range)));
    }
    ranges.sort_by_key(|(i, range)| (range.value.first, *i));
    // The range that ends last of those before: a long one may overlap several.
    let mut before: Option<&(usize, At<DistrictRange>)> = None;
    for range in &ranges {
        if let Some(other) = before.filter(|(_, o)| o.value.last >= range.1.value.first) {
            // What is told is the later one in the file.
            let (early, late) = if other.0 < range.0 { (other, range) } else { (range, other) };
            let (late_range, early_range) = (late.1.value, early.1.value);
            let line = early.1.mark.line;
            let what = match late_range == early_range {
                true => format!("{late_range} stands twice, first in line {line}"),
                false => format!("{late_range} overlaps {early_range} of the same region (line {line})"),
            };
            sink.error(late.1.mark, &path.index(late.0), what, "join the two, or take one out");
        }
        if before.is_none_or(|(_, o)| o.value.last < range.1.value.last) {
            before = Some(range);
        }
    }
    ranges.into_iter().map(|(_, range)| range.value).collect()
}

/// A district, or a range of them: `110101`, `310000-319999`.
fn district_range(text: &str) -> Result<DistrictRange, Wrong> {
    let cure = "write a district's number, as in 110101, or a range, as in 310000-319999";
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    let number = |part: &str| match whole32(0)(part.trim()) {
        Ok(number) => Ok(number),
        Err(_) => Err(Wrong::new(format!("`{text}` is no district and no range of them"), cure)),
    };
    let (first, last) = (number(first)?, number(last)?);
    if first == 0 {
        let what = "0 stands for a district that is not known, and is in no region";
        return Err(Wrong::new(what, "begin with 1 or more; a prize for everybody has no `regions`"));
    }
    if last < first {
        let what = format!("`{text}` ends before it begins");
        return Err(Wrong::new(what, format!("write {last}-{first}")));
    }
    Ok(DistrictRange { first, last })
}

/// The regions that a prize is limited to.
pub(crate) fn read_limits(
    node: &Node<'_>,
    path: &Path<'_>,
    names: &RegionNames,
    sink: &mut Sink,
) -> Option<Regions> {
    let nodes = list(node, path, sink)?;
    if nodes.is_empty() {
        let cure = "name at least one, or leave the key out: then the prize can be won everywhere";
        sink.error(node.mark, path, "a prize that can be won in no region", cure);
        return None;
    }
    let (mut regions, mut seen, mut good) = (0u64, BTreeMap::new(), true);
    for (i, node) in nodes.iter().enumerate() {
        let path = path.index(i);
        let Some(region) = scalar(|text| known(text, names))(node, &path, sink) else {
            good = false;
            continue;
        };
        if let Some(line) = seen.insert(region, node.mark.line) {
            let what = format!("the prize names this region twice, first in line {line}");
            sink.error(node.mark, &path, what, "keep one of them");
        }
        // Of regions beyond the most that there may be it is said elsewhere.
        regions |= if region < REGIONS_MAX { 1 << region } else { 0 };
    }
    good.then_some(Regions(regions))
}

fn known(text: &str, names: &RegionNames) -> Result<usize, Wrong> {
    if let Some(region) = names.get(text) {
        return Ok(*region);
    }
    let all = || names.keys().map(String::as_str);
    let cure = match nearest(text, all()) {
        Some(near) => format!("did you mean `{near}`?"),
        None if names.is_empty() => "add it under `regions` of the campaign, with its districts".to_string(),
        None => format!("known are {}", all().take(10).collect::<Vec<_>>().join(", ")),
    };
    Err(Wrong::new(format!("there is no region `{text}`"), cure))
}
