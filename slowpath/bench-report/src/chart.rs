//! Plots: lines with points over a linear or logarithmic axis.

use std::fmt::Display;
use std::ops::Range;

use plotters::coord::ranged1d::ValueFormatter;
use plotters::prelude::*;
use plotters::style::full_palette::{BLUE_700, DEEPORANGE_600, GREY_300, GREY_600, GREY_900, PURPLE_600, TEAL_600};

/// A plot to be drawn.
pub struct Chart<'a> {
    pub title: &'a str,
    pub x: Axis<'a>,
    pub y: Axis<'a>,
    pub lines: Vec<Line>,
}

/// An axis.
pub struct Axis<'a> {
    pub title: &'a str,
    pub scale: Scale,
    /// How numbers stand at it.
    pub format: fn(f64) -> String,
}

/// How values are spread over an axis.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Scale {
    /// From 0, with room above the greatest.
    FromZero,
    /// From the least to the greatest, each with half a step around it.
    Steps,
    /// From the power of ten below to that above.
    Log,
}

/// A line: its name and its points.
pub struct Line {
    pub name: String,
    pub points: Vec<(f64, f64)>,
}

const SIZE: (u32, u32) = (760, 400);
const COLORS: [RGBColor; 4] = [BLUE_700, DEEPORANGE_600, TEAL_600, PURPLE_600];
const FONT: &str = "sans-serif";

/// The plot as SVG.
pub fn draw(chart: &Chart) -> Result<String, String> {
    let mut svg = String::new();
    let drawn = match (chart.x.scale, chart.y.scale) {
        (Scale::Log, Scale::Log) => paint(&mut svg, chart, log(chart, 0), log(chart, 1)),
        (Scale::Log, _) => paint(&mut svg, chart, log(chart, 0), linear(chart, 1)),
        (_, Scale::Log) => paint(&mut svg, chart, linear(chart, 0), log(chart, 1)),
        _ => paint(&mut svg, chart, linear(chart, 0), linear(chart, 1)),
    };
    drawn.map(|()| svg).map_err(|e| format!("{}: {e}", chart.title))
}

type LogRange = plotters::coord::combinators::LogCoord<f64>;
type LinearRange = plotters::coord::types::RangedCoordf64;

/// The least and the greatest value along an axis: 0 is x, 1 is y.
fn span(chart: &Chart, axis: usize) -> Range<f64> {
    let values = chart.lines.iter().flat_map(|line| &line.points).map(|&(x, y)| if axis == 0 { x } else { y });
    let (low, high) = values.fold((f64::MAX, f64::MIN), |(low, high), v| (low.min(v), high.max(v)));
    if low > high { 0.0..1.0 } else { low..high }
}

fn log(chart: &Chart, axis: usize) -> LogRange {
    let span = span(chart, axis);
    let power = |v: f64, round: fn(f64) -> f64| 10_f64.powf(round(v.max(1e-9).log10()));
    let (low, high) = (power(span.start, f64::floor), power(span.end, f64::ceil));
    (low..high.max(10.0 * low)).log_scale().into()
}

fn linear(chart: &Chart, axis: usize) -> LinearRange {
    let span = span(chart, axis);
    let scale = if axis == 0 { chart.x.scale } else { chart.y.scale };
    match scale {
        Scale::Steps => (span.start - 0.5..span.end + 0.5).into(),
        _ => (0.0..span.end.max(f64::MIN_POSITIVE) * 1.12).into(),
    }
}

fn paint<X, Y>(svg: &mut String, chart: &Chart, x: X, y: Y) -> Result<(), Box<dyn std::error::Error>>
where
    X: Ranged<ValueType = f64> + ValueFormatter<f64>,
    Y: Ranged<ValueType = f64> + ValueFormatter<f64>,
{
    let root = SVGBackend::with_string(svg, SIZE).into_drawing_area();
    root.fill(&WHITE)?;
    let text = |size: i32| (FONT, size).into_font().color(&GREY_900);
    let mut area = ChartBuilder::on(&root)
        .caption(chart.title, text(17))
        .margin(14)
        .x_label_area_size(44)
        .y_label_area_size(64)
        .build_cartesian_2d(x, y)?;
    let ticks = if chart.x.scale == Scale::Steps { span(chart, 0).end as usize * 2 + 1 } else { 10 };
    area.configure_mesh()
        .x_desc(chart.x.title)
        .y_desc(chart.y.title)
        .axis_desc_style(text(14))
        .label_style(text(13))
        .x_labels(ticks)
        .y_labels(8)
        .x_label_formatter(&|v| (chart.x.format)(*v))
        .y_label_formatter(&|v| (chart.y.format)(*v))
        .bold_line_style(GREY_300)
        .light_line_style(TRANSPARENT)
        .axis_style(GREY_600)
        .draw()?;
    for (line, color) in chart.lines.iter().zip(COLORS.into_iter().cycle()) {
        area.draw_series(LineSeries::new(line.points.iter().copied(), color.stroke_width(2)))?
            .label(line.name.as_str())
            .legend(move |(x, y)| PathElement::new([(x, y), (x + 22, y)], color.stroke_width(3)));
        area.draw_series(line.points.iter().map(|&point| Circle::new(point, 4, color.filled())))?;
    }
    if chart.lines.len() > 1 {
        area.configure_series_labels()
            .position(legend(chart))
            .margin(12)
            .legend_area_size(30)
            .label_font(text(13))
            .background_style(WHITE.mix(0.9))
            .border_style(GREY_300)
            .draw()?;
    }
    root.present()?;
    Ok(())
}

/// A corner where no line is.
fn legend(chart: &Chart) -> SeriesLabelPosition {
    let Range { start: low, end: high } = span(chart, 1);
    match chart.y.scale {
        // Times rise to the right.
        Scale::Log => SeriesLabelPosition::LowerRight,
        // What comes near to 0 fell.
        _ if low < high / 5.0 => SeriesLabelPosition::UpperRight,
        _ => SeriesLabelPosition::LowerLeft,
    }
}

/// A number with at most `digits` significant digits and a unit for thousands: 1 k, 10 M.
pub fn short(v: f64) -> String {
    let unit = |v: f64, unit: &str| {
        let text = if v < 10.0 { format!("{v:.1}") } else { format!("{v:.0}") };
        format!("{}{unit}", text.strip_suffix(".0").unwrap_or(&text))
    };
    match v {
        v if v >= 1e6 => unit(v / 1e6, " M"),
        v if v >= 1e3 => unit(v / 1e3, " k"),
        v => unit(v, ""),
    }
}

/// A number as it is.
pub fn plain(v: impl Display) -> String {
    v.to_string()
}
