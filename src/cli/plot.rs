//! A release told again, as a picture: the weight, canary against stable with the always-valid band,
//! and the evidence with its limits, metric by metric; every decision through all of them.
//!
//! Colours are those of Okabe and Ito, which people with every kind of colour vision tell apart; what
//! they mean is also said by dashes, marks and words.

use std::path::Path;
use std::sync::Once;

use plotters::backend::DrawingBackend;
use plotters::coord::Shift;
use plotters::coord::ranged1d::{AsRangedCoord, ValueFormatter};
use plotters::coord::types::RangedCoordf64;
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};
use plotters::style::{FontStyle, register_font};

use super::cluster::Trouble;
use super::timeline::{Event, Kind, Told};
use super::units::{number, percent};
use crate::decision::{Judged, Millis, Outcome, Reading, Unit};
use crate::judge::{amount, count};

const CANARY: RGBColor = RGBColor(213, 94, 0);
const STABLE: RGBColor = RGBColor(0, 114, 178);
const SAFETY: RGBColor = RGBColor(0, 158, 115);
const HARM: RGBColor = RGBColor(204, 60, 130);
const INK: RGBColor = RGBColor(40, 44, 52);
const FAINT: RGBColor = RGBColor(222, 224, 228);
const WEIGHT: RGBColor = RGBColor(150, 156, 166);

const WIDTH: u32 = 1280;
const HEAD: u32 = 64;
const STRIP: u32 = 130;
const ROW: u32 = 250;
const FOOT: u32 = 34;
const FONT: &str = "sans-serif";

/// Largest e-value that is drawn: what is beyond is certain enough.
const MOST: f64 = 1e6;
const LEAST: f64 = 0.05;

/// Height of the weights' panel in percent: the decisions are written above 100 %.
const TALL: f64 = 140.0;

type Area<'a, B> = DrawingArea<B, Shift>;

/// How a value on the upward axis is written.
type Label<'a> = &'a dyn Fn(&f64) -> String;

/// Draws the picture into a file: SVG, or PNG where the name ends so.
///
/// # Errors
/// When the file cannot be written.
pub fn draw(told: &Told, path: &Path, png: bool) -> Result<(), Trouble> {
    font();
    let rows = told.ticks.first().map_or(0, |judged| judged.readings.len());
    let height = HEAD + STRIP + FOOT + ROW * u32::try_from(rows).unwrap_or(0);
    let failed = |error: String| Trouble::Other(format!("{}: {error}", path.display()));
    if png {
        let root = BitMapBackend::new(path, (WIDTH, height)).into_drawing_area();
        picture(told, &root).map_err(failed)
    } else {
        let root = SVGBackend::new(path, (WIDTH, height)).into_drawing_area();
        picture(told, &root).map_err(failed)
    }
}

/// The font comes along, for machines that have none.
fn font() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        // Both are what the crate was made of; a picture without words would still be drawn.
        let _ = register_font(FONT, FontStyle::Normal, dejavu::sans::regular());
        let _ = register_font(FONT, FontStyle::Bold, dejavu::sans::bold());
    });
}

/// What all panels have in common.
struct Scene<'a> {
    told: &'a Told,
    begun: Millis,
    /// Seconds from the first weight to the end.
    length: f64,
}

impl Scene<'_> {
    fn since(&self, at: Millis) -> f64 {
        (at - self.begun).as_secs_f64()
    }

    /// Every tick since the first weight with its reading of a metric.
    fn readings(&self, metric: usize) -> impl Iterator<Item = (f64, &Judged, &Reading)> {
        let ticks = self.told.ticks.iter().filter(|judged| judged.at >= self.begun);
        ticks.filter_map(move |judged| Some((self.since(judged.at), judged, judged.readings.get(metric)?)))
    }

    /// The first weight.
    fn begun(&self) -> Option<&Event> {
        self.told.events.first().filter(|event| event.kind == Kind::Began)
    }

    /// What was decided, without what is only told beside it.
    fn decisions(&self) -> impl Iterator<Item = &Event> {
        let decided = |event: &&Event| matches!(event.kind, Kind::Promoted | Kind::Aborted | Kind::MovedAgainst);
        self.told.events.iter().filter(decided)
    }
}

fn picture<B: DrawingBackend>(told: &Told, root: &Area<'_, B>) -> Result<(), String> {
    let said = |error: DrawingAreaErrorKind<B::ErrorType>| error.to_string();
    root.fill(&WHITE).map_err(said)?;
    let begun = told.events.first().map_or(Millis(0), |event| event.time);
    let last = told.ticks.last().map_or(begun, |judged| judged.at);
    let end = told.events.last().map_or(last, |event| event.time.max(last));
    let scene = Scene {
        told,
        begun,
        length: (end - begun).as_secs_f64().max(1.0) * 1.02,
    };
    heading(&scene, root)?;
    let (_, below) = root.split_vertically(HEAD);
    let (strip, below) = below.split_vertically(STRIP);
    weights(&scene, &strip)?;
    let metrics = told.ticks.first().map_or(&[][..], |judged| judged.readings.as_slice());
    let mut left = below;
    for (place, reading) in metrics.iter().enumerate() {
        let (row, rest) = left.split_vertically(ROW);
        let (rates, evidence) = row.split_horizontally(WIDTH / 2);
        self::rates(&scene, place, &reading.metric, &rates)?;
        self::evidence(&scene, place, &reading.metric, &evidence)?;
        left = rest;
    }
    let foot = format!(
        "seconds since the first weight, {} UTC · policy {}",
        told.events
            .first()
            .map_or("", |event| event.at.get(..19).unwrap_or_default())
            .replace('T', " "),
        told.policy_hash.get(..12).unwrap_or(&told.policy_hash),
    );
    words(
        &left,
        &foot,
        (i32::try_from(WIDTH).unwrap_or(0) / 2, 8),
        (13, INK, HPos::Center),
    )?;
    root.present().map_err(said)
}

fn words<B: DrawingBackend>(
    area: &Area<'_, B>,
    text: &str,
    at: (i32, i32),
    (size, colour, side): (i32, RGBColor, HPos),
) -> Result<(), String> {
    let style = TextStyle::from((FONT, size).into_font())
        .color(&colour)
        .pos(Pos::new(side, VPos::Top));
    area.draw(&Text::new(text.to_owned(), at, style))
        .map_err(|error| error.to_string())
}

fn heading<B: DrawingBackend>(scene: &Scene<'_>, root: &Area<'_, B>) -> Result<(), String> {
    let end = &scene.told.end;
    let outcome = match end.decision {
        Outcome::Promote if end.weight == 100 => "promoted to 100 %".to_owned(),
        Outcome::Promote => format!("promoted to {} %", end.weight),
        Outcome::Abort => format!(
            "aborted at step {} of {}: {}",
            end.step,
            scene.told.steps.len(),
            end.reason
        ),
        Outcome::Hold => format!("held at {} %: {}", end.weight, end.reason),
    };
    let title = TextStyle::from((FONT, 22, FontStyle::Bold).into_font()).color(&INK);
    let title = Text::new(format!("{}  {outcome}", scene.told.gate), (24, 12), title);
    root.draw(&title).map_err(|error| error.to_string())?;
    let rule: String = end.rule.chars().take(150).collect();
    words(root, &rule, (24, 42), (14, INK, HPos::Left))
}

/// The axes of a panel: seconds to the right, and upwards what its labels say.
fn axes<'a, B, Y>(
    scene: &Scene<'_>,
    area: &Area<'a, B>,
    (left, right): (u32, u32),
    (upwards, labels, label): (Y, usize, Label<'_>),
) -> Result<ChartContext<'a, B, Cartesian2d<RangedCoordf64, Y::CoordDescType>>, String>
where
    B: DrawingBackend,
    Y: AsRangedCoord<Value = f64>,
    Y::CoordDescType: ValueFormatter<f64>,
{
    let said = |error: DrawingAreaErrorKind<B::ErrorType>| error.to_string();
    let mut chart = ChartBuilder::on(area)
        .margin_left(left)
        .margin_right(right)
        .margin_top(26)
        .set_label_area_size(LabelAreaPosition::Left, 80 - left)
        .set_label_area_size(LabelAreaPosition::Bottom, 22)
        .build_cartesian_2d(0.0..scene.length, upwards)
        .map_err(said)?;
    chart
        .configure_mesh()
        .disable_x_mesh()
        .y_labels(labels)
        .y_label_formatter(label)
        .x_label_formatter(&|second| format!("{second:.0} s"))
        .light_line_style(TRANSPARENT)
        .bold_line_style(FAINT)
        .axis_style(FAINT)
        .label_style((FONT, 13, &INK))
        .draw()
        .map_err(said)?;
    Ok(chart)
}

/// The canary's weight over time, with the decisions in words.
fn weights<B: DrawingBackend>(scene: &Scene<'_>, area: &Area<'_, B>) -> Result<(), String> {
    let said = |error: DrawingAreaErrorKind<B::ErrorType>| error.to_string();
    let label = |weight: &f64| {
        if *weight > 100.0 {
            String::new()
        } else {
            format!("{weight:.0} %")
        }
    };
    let mut chart = axes(scene, area, (24, 24), (0.0..TALL, 3, &label))?;
    let mut stairs = vec![(0.0, 0.0)];
    for event in &scene.told.events {
        let moved = match event.kind {
            Kind::Began | Kind::Moved | Kind::MovedAgainst | Kind::Aborted => event.to,
            Kind::Held | Kind::Promoted => continue,
        };
        let (at, before) = (
            scene.since(event.time),
            stairs.last().map_or(0.0, |(_, weight)| *weight),
        );
        stairs.push((at, before));
        stairs.push((at, whole(moved)));
    }
    stairs.push((scene.length, stairs.last().map_or(0.0, |(_, weight)| *weight)));
    chart
        .draw_series(AreaSeries::new(stairs, 0.0, WEIGHT.mix(0.25)).border_style(WEIGHT.stroke_width(2)))
        .map_err(said)?;
    let mut free = f64::NEG_INFINITY;
    for event in scene.begun().into_iter().chain(scene.decisions()) {
        let at = scene.since(event.time);
        chart.draw_series(upright(event, at, (0.0, TALL))).map_err(said)?;
        let (mark, colour) = mark(event);
        let text = match event.kind {
            Kind::Aborted => format!("{mark} Abort: {}", event.reason),
            Kind::MovedAgainst => format!("{mark} went on, {} says hold", event.reason),
            _ => format!("{mark} {} %", event.to),
        };
        // Labels that would lie on each other go below each other.
        let height = if at < free { TALL - 26.0 } else { TALL };
        free = at + scene.length * 0.012 * f64::from(u32::try_from(text.chars().count()).unwrap_or(0));
        let near_end = at > scene.length * 0.85;
        let side = if near_end { HPos::Right } else { HPos::Left };
        let style = TextStyle::from((FONT, 14, FontStyle::Bold).into_font()).color(&colour);
        let style = style.pos(Pos::new(side, VPos::Top));
        let nudge = if near_end { -0.004 } else { 0.004 } * scene.length;
        let text = Text::new(text, (at + nudge, height), style);
        chart.draw_series(std::iter::once(text)).map_err(said)?;
    }
    words(area, "canary's share of the traffic", (84, 4), (13, INK, HPos::Left))
}

/// A decision's mark and colour.
const fn mark(event: &Event) -> (&'static str, RGBColor) {
    match event.kind {
        Kind::Aborted => ("✕", HARM),
        Kind::MovedAgainst => ("!", CANARY),
        Kind::Began => ("▶", INK),
        _ => ("▲", SAFETY),
    }
}

/// A thin line through a panel where something was decided.
fn upright<Y: Clone + 'static>(event: &Event, at: f64, (low, high): (Y, Y)) -> [PathElement<(f64, Y)>; 1] {
    let (_, colour) = mark(event);
    [PathElement::new(
        vec![(at, low), (at, high)],
        colour.mix(0.7).stroke_width(1),
    )]
}

/// Both arms' rates since the step began, and the band within which the canary's lies.
fn rates<B: DrawingBackend>(scene: &Scene<'_>, metric: usize, name: &str, area: &Area<'_, B>) -> Result<(), String> {
    let said = |error: DrawingAreaErrorKind<B::ErrorType>| error.to_string();
    let unit = scene.readings(metric).map(|(_, _, reading)| reading.unit).next();
    let unit = unit.unwrap_or_default();
    let rate = |[events, all]: [f64; 2]| {
        let value = match unit {
            Unit::Requests => events / all * 100.0,
            Unit::PodSeconds => events / all * 3600.0,
            Unit::Samples => events,
        };
        (all > 0.0).then_some(value)
    };
    let highest = scene
        .readings(metric)
        .flat_map(|(_, _, reading)| [rate(reading.canary), rate(reading.baseline)]);
    let top = (highest.flatten().fold(0.0, f64::max) * 1.6).max(0.5);
    let label = |rate: &f64| match unit {
        Unit::Requests => percent(*rate, 100.0),
        Unit::PodSeconds => format!("{} a pod-hour", number(*rate)),
        Unit::Samples => amount(*rate),
    };
    let mut chart = axes(scene, area, (24, 12), (0.0..top, 5, &label))?;
    for step in 0..scene.told.steps.len() {
        let at_step = || scene.readings(metric).filter(move |(_, judged, _)| judged.step == step);
        let band: Vec<(f64, [f64; 2])> = at_step()
            .filter_map(|(at, _, reading)| {
                let (within, stable) = (reading.interval?, rate(reading.baseline)?);
                Some((at, within.map(|bound| (bound * stable).min(top))))
            })
            .collect();
        let upper = band.iter().map(|(at, [_, high])| (*at, *high));
        let lower = band.iter().rev().map(|(at, [low, _])| (*at, *low));
        let outline: Vec<(f64, f64)> = upper.chain(lower).collect();
        if band.len() > 1 {
            let band = Polygon::new(outline, CANARY.mix(0.14));
            chart.draw_series(std::iter::once(band)).map_err(said)?;
        }
        let line = |of: fn(&Reading) -> [f64; 2]| -> Vec<(f64, f64)> {
            at_step()
                .filter_map(|(at, _, reading)| Some((at, rate(of(reading))?.min(top))))
                .collect()
        };
        let (stable, canary) = (line(|reading| reading.baseline), line(|reading| reading.canary));
        let at_stable = stable.clone();
        let dashed = DashedLineSeries::new(stable, 7, 4, STABLE.stroke_width(2));
        chart.draw_series(dashed).map_err(said)?;
        let points: Vec<_> = canary.iter().map(|at| Circle::new(*at, 3, CANARY.filled())).collect();
        chart.draw_series(points).map_err(said)?;
        let points: Vec<_> = at_stable
            .iter()
            .map(|at| Circle::new(*at, 2, STABLE.filled()))
            .collect();
        chart.draw_series(points).map_err(said)?;
        chart
            .draw_series(LineSeries::new(canary, CANARY.stroke_width(3)))
            .map_err(said)?;
    }
    for event in scene.decisions() {
        chart
            .draw_series(upright(event, scene.since(event.time), (0.0, top)))
            .map_err(said)?;
    }
    words(area, name, (84, 4), (14, INK, HPos::Left))?;
    legend(
        area,
        &[
            ("canary", CANARY),
            ("stable (dashed)", STABLE),
            ("95 % always-valid band", CANARY),
        ],
    )
}

/// The names of the lines at the right of a panel's title.
fn legend<B: DrawingBackend>(area: &Area<'_, B>, lines: &[(&str, RGBColor)]) -> Result<(), String> {
    let mut right = i32::try_from(WIDTH / 2).unwrap_or(0) - 26;
    for (name, colour) in lines.iter().rev() {
        words(area, name, (right, 5), (13, *colour, HPos::Right))?;
        right -= 12 + 8 * i32::try_from(name.chars().count()).unwrap_or(0);
    }
    Ok(())
}

/// Evidence of harm and of safety as e-values, each with the limit that it has to reach.
fn evidence<B: DrawingBackend>(scene: &Scene<'_>, metric: usize, name: &str, area: &Area<'_, B>) -> Result<(), String> {
    let said = |error: DrawingAreaErrorKind<B::ErrorType>| error.to_string();
    let e = |nats: f64| nats.exp().clamp(LEAST, MOST);
    let both = |(_, _, reading): (f64, &Judged, &Reading)| [reading.harm, reading.safety].concat();
    let top = scene
        .readings(metric)
        .flat_map(both)
        .fold(1.0, |top: f64, nats| top.max(e(nats)))
        * 4.0;
    let label = |value: &f64| {
        if *value < 1.0 {
            format!("{value}")
        } else {
            count(*value)
        }
    };
    let mut chart = axes(scene, area, (12, 24), ((LEAST..top).log_scale(), 5, &label))?;
    let harm: fn(&Reading) -> [f64; 2] = |reading| reading.harm;
    let safety: fn(&Reading) -> [f64; 2] = |reading| reading.safety;
    for (side, colour, of) in [("harm", HARM, harm), ("safety", SAFETY, safety)] {
        let Some(limit) = scene.readings(metric).map(|(_, _, reading)| of(reading)[1]).last() else {
            continue;
        };
        let limit = e(limit);
        let across = DashedLineSeries::new([(0.0, limit), (scene.length, limit)], 4, 4, colour.stroke_width(1));
        chart.draw_series(across).map_err(said)?;
        let style = TextStyle::from((FONT, 12).into_font())
            .color(&colour)
            .pos(Pos::new(HPos::Left, VPos::Bottom));
        let text = Text::new(
            format!("{side} shown at {limit:.0}"),
            (scene.length * 0.005, limit * 1.08),
            style,
        );
        chart.draw_series(std::iter::once(text)).map_err(said)?;
        for step in 0..scene.told.steps.len() {
            let at_step = scene.readings(metric).filter(|(_, judged, _)| judged.step == step);
            let line: Vec<(f64, f64)> = at_step.map(|(at, _, reading)| (at, e(of(reading)[0]))).collect();
            chart
                .draw_series(LineSeries::new(line.clone(), colour.stroke_width(2)))
                .map_err(said)?;
            let points = line.into_iter().map(|at| Circle::new(at, 2, colour.filled()));
            chart.draw_series(points).map_err(said)?;
        }
    }
    for event in scene.decisions() {
        chart
            .draw_series(upright(event, scene.since(event.time), (LEAST, top)))
            .map_err(said)?;
    }
    words(
        area,
        &format!("{name}: evidence as e-value, log scale"),
        (80, 4),
        (14, INK, HPos::Left),
    )?;
    legend(area, &[("harm", HARM), ("safety", SAFETY)])
}

fn whole(weight: i64) -> f64 {
    f64::from(u8::try_from(weight.clamp(0, 100)).unwrap_or(0))
}
