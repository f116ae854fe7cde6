//! Figures of several things in groups, as bars that lie one below the other. Each group has a scale of its own, so that one
//! of large figures leaves the others readable.

use super::{Svg, WIDTH, colour, escaped};

/// Room left of the bars for their names, and right of them for their figures.
const MARGIN: (f64, f64) = (190.0, 190.0);
/// Where the first group begins.
const TOP: f64 = 44.0;
/// What a group's heading takes, a bar with the room around it, and the room below a group.
const HEADING: f64 = 26.0;
const ROW: f64 = 22.0;
const GAP: f64 = 14.0;
const BAR: f64 = 14.0;
/// Where figures and ratios end, and what is to be noted begins: right of the bars.
const COLUMNS: (f64, f64, f64) = (WIDTH - 110.0, WIDTH - 55.0, WIDTH - 48.0);
/// Half of the line across a whisker's end.
const WHISKER: f64 = 4.0;

/// The bars of one group; at least one. The first of those that the others are relative to is at `base`.
#[derive(Clone, PartialEq, Debug)]
pub(crate) struct Group {
    pub(crate) heading: String,
    /// What the figures are.
    pub(crate) measure: String,
    pub(crate) bars: Vec<Bar>,
    /// A line marks the middle of this bar in the whole group.
    pub(crate) base: usize,
}

/// One bar, as long as `middle`, with a whisker from `lowest` to `highest`.
#[derive(Clone, PartialEq, Debug)]
pub(crate) struct Bar {
    pub(crate) name: String,
    /// The number of its colour.
    pub(crate) colour: usize,
    pub(crate) middle: f64,
    pub(crate) lowest: f64,
    pub(crate) highest: f64,
    /// Right of it: the figure for people, how it compares with the base, and a word on what it hides.
    pub(crate) texts: [String; 3],
}

/// A whole SVG document.
pub(crate) fn bars(title: &str, groups: &[Group]) -> String {
    let height = |group: &Group| HEADING + ROW * group.bars.len() as f64 + GAP;
    let mut svg = Svg::new(TOP + groups.iter().map(height).sum::<f64>(), 20.0, title);
    let mut y = TOP;
    for group in groups {
        draw(group, y, &mut svg);
        y += height(group);
    }
    svg.finish()
}

/// Draws a group whose upper edge is at `top`.
fn draw(group: &Group, top: f64, svg: &mut Svg) {
    let (left, right) = (MARGIN.0, WIDTH - MARGIN.1);
    let longest = group.bars.iter().map(|bar| bar.highest.max(bar.middle)).fold(f64::MIN_POSITIVE, f64::max);
    let x = |figure: f64| left + figure / longest * (right - left);
    let (first, text) = (top + HEADING, top + HEADING - 9.0);
    let (heading, measure) = (escaped(&group.heading), escaped(&group.measure));
    svg.append(format_args!(
        "<text x='20' y='{text}' font-weight='bold'>{heading}<tspan dx='14' font-weight='normal' fill='#555'>{measure}</tspan></text>\n"
    ));
    for (number, bar) in group.bars.iter().enumerate() {
        let y = first + ROW * number as f64;
        let (middle, text) = (y + ROW / 2.0, y + ROW / 2.0 + 4.5);
        let name = escaped(&bar.name);
        svg.append(format_args!("<text x='{}' y='{text}' text-anchor='end'>{name}</text>\n", left - 8.0));
        let (upper, width, colour) = (middle - BAR / 2.0, x(bar.middle) - left, colour(bar.colour));
        svg.append(format_args!(
            "<rect x='{left}' y='{upper}' width='{width:.1}' height='{BAR}' fill='{colour}' fill-opacity='0.75'/>\n"
        ));
        if bar.lowest < bar.highest {
            let (from, to, up, down) = (x(bar.lowest), x(bar.highest), middle - WHISKER, middle + WHISKER);
            svg.append(format_args!(
                "<path d='M{from:.1} {middle}H{to:.1}M{from:.1} {up}V{down}M{to:.1} {up}V{down}' fill='none' stroke='#222'/>\n"
            ));
        }
        let [figure, ratio, note] = bar.texts.each_ref().map(|text| escaped(text));
        let columns = [(COLUMNS.0, "end", figure), (COLUMNS.1, "end", ratio), (COLUMNS.2, "start", note)];
        for (x, anchor, words) in columns.iter().filter(|(_, _, words)| !words.is_empty()) {
            svg.append(format_args!("<text x='{x}' y='{text}' text-anchor='{anchor}'>{words}</text>\n"));
        }
    }
    let (base, last) = (x(group.bars[group.base].middle), first + ROW * group.bars.len() as f64);
    svg.append(format_args!("<path d='M{base:.1} {first}V{last}' stroke='#222' stroke-dasharray='3 3'/>\n"));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bar(name: &str, colour: usize, [lowest, middle, highest]: [f64; 3]) -> Bar {
        Bar {
            name: name.to_owned(),
            colour,
            middle,
            lowest,
            highest,
            texts: [middle.to_string(), "1 ×".into(), String::new()],
        }
    }

    #[test]
    fn every_group_has_a_scale_of_its_own() {
        let mut first = vec![bar("a < b", 0, [10.0, 20.0, 26.0]), bar("once", 1, [13.0, 13.0, 13.0])];
        first[1].texts[2] = "< all".to_owned();
        let group =
            |heading: &str, bars, base| Group { heading: heading.into(), measure: "per second".into(), bars, base };
        let groups = [group("small", first, 1), group("large", vec![bar("c", 2, [1e6, 2e6, 4e6])], 0)];
        let golden = "\
<svg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 900 190' font-family='sans-serif' font-size='13'>
<rect width='100%' height='100%' fill='white'/>
<text x='20' y='24' font-size='15'>Two groups</text>
<text x='20' y='61' font-weight='bold'>small<tspan dx='14' font-weight='normal' fill='#555'>per second</tspan></text>
<text x='182' y='85.5' text-anchor='end'>a &lt; b</text>
<rect x='190' y='74' width='400.0' height='14' fill='#0072b2' fill-opacity='0.75'/>
<path d='M390.0 81H710.0M390.0 77V85M710.0 77V85' fill='none' stroke='#222'/>
<text x='790' y='85.5' text-anchor='end'>20</text>
<text x='845' y='85.5' text-anchor='end'>1 ×</text>
<text x='182' y='107.5' text-anchor='end'>once</text>
<rect x='190' y='96' width='260.0' height='14' fill='#d55e00' fill-opacity='0.75'/>
<text x='790' y='107.5' text-anchor='end'>13</text>
<text x='845' y='107.5' text-anchor='end'>1 ×</text>
<text x='852' y='107.5' text-anchor='start'>&lt; all</text>
<path d='M450.0 70V114' stroke='#222' stroke-dasharray='3 3'/>
<text x='20' y='145' font-weight='bold'>large<tspan dx='14' font-weight='normal' fill='#555'>per second</tspan></text>
<text x='182' y='169.5' text-anchor='end'>c</text>
<rect x='190' y='158' width='260.0' height='14' fill='#009e73' fill-opacity='0.75'/>
<path d='M320.0 165H710.0M320.0 161V169M710.0 161V169' fill='none' stroke='#222'/>
<text x='790' y='169.5' text-anchor='end'>2000000</text>
<text x='845' y='169.5' text-anchor='end'>1 ×</text>
<path d='M450.0 154V176' stroke='#222' stroke-dasharray='3 3'/>
</svg>
";
        assert_eq!(bars("Two groups", &groups), golden);
    }

    #[test]
    fn nothing_is_divided_by_zero() {
        let group =
            Group { heading: "idle".into(), measure: String::new(), bars: vec![bar("none", 0, [0.0; 3])], base: 0 };
        let svg = bars("Nothing", &[group]);
        assert!(svg.contains("width='0.0'") && !svg.contains("NaN") && !svg.contains("inf"), "{svg}");
    }
}
