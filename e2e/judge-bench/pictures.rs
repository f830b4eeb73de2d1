//! Pictures of a run, as SVG. Drawn by hand: a library for it takes longer to compile than the bench.
//!
//! Colours are those of Okabe and Ito, as in the pictures of a replay.

use std::fmt::Write as _;

use crate::outcome::Figure;
use crate::report::{Results, Row};
use crate::worlds::{self, MINUTE, STEP, WEIGHTS};
use crate::{COLD, EAGER, TO_THE_END, USUAL};

const OURS: &str = "#0072b2";
const PEERS: &str = "#5b616b";
const INK: &str = "#282c34";
const FAINT: &str = "#dee0e4";
const PROMISED: &str = "#e3f2ec";

/// What the judges are called where there is little room.
const NAMES: [(&str, &str); 13] = [
    ("Argo Rollouts: ratio above", "Argo Rollouts, failureLimit 0"),
    ("Argo Rollouts: the same", "Argo Rollouts, failureLimit 3"),
    ("Flagger", "Flagger, 5 checks"),
    ("Kayenta: 15 points", "Kayenta"),
    ("Kayenta: the same", "Kayenta, equal baseline"),
    ("Kayenta: points of 10 s", "Kayenta, every minute"),
    ("exact binomial", "exact binomial"),
    ("Lindon–Malek", "Lindon–Malek"),
    ("mSPRT", "mSPRT"),
    (COLD, "Tollgate 0 %, no hour before"),
    (EAGER, "Tollgate, margin 0 %"),
    (USUAL, "Tollgate, margin 10 %"),
    (TO_THE_END, "Tollgate, own pace"),
];

/// An SVG that is being drawn.
struct Picture(String);

impl Picture {
    fn new(width: f64, height: f64) -> Self {
        let mut out = String::new();
        let _ = writeln!(
            out,
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {height}\" width=\"{width}\" height=\"{height}\" font-family=\"sans-serif\" font-size=\"12\">\n<rect width=\"100%\" height=\"100%\" fill=\"#ffffff\"/>"
        );
        Self(out)
    }

    fn line(&mut self, [x, y]: [f64; 2], [to_x, to_y]: [f64; 2], style: &str) {
        let _ = writeln!(
            self.0,
            "<path d=\"M{x:.1} {y:.1}L{to_x:.1} {to_y:.1}\" fill=\"none\" {style}/>"
        );
    }

    fn dot(&mut self, [x, y]: [f64; 2], colour: &str) {
        let _ = writeln!(
            self.0,
            "<circle cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"4\" fill=\"{colour}\"/>"
        );
    }

    fn area(&mut self, [x, y]: [f64; 2], [to_x, to_y]: [f64; 2], colour: &str) {
        let (wide, high) = (to_x - x, to_y - y);
        let _ = writeln!(
            self.0,
            "<rect x=\"{x:.1}\" y=\"{y:.1}\" width=\"{wide:.1}\" height=\"{high:.1}\" fill=\"{colour}\"/>"
        );
    }

    /// `style` holds further attributes, such as where the text is anchored.
    fn text(&mut self, [x, y]: [f64; 2], text: &str, style: &str) {
        let _ = writeln!(self.0, "<text x=\"{x:.1}\" y=\"{y:.1}\" {style}>{text}</text>");
    }

    fn end(mut self) -> String {
        self.0.push_str("</svg>\n");
        self.0
    }
}

const END: &str = "text-anchor=\"end\" fill=\"#282c34\"";
const MIDDLE: &str = "text-anchor=\"middle\" fill=\"#282c34\"";
const START: &str = "fill=\"#282c34\"";
const BOLD: &str = "font-weight=\"bold\" font-size=\"14\" fill=\"#282c34\"";

fn stroke(colour: &str, width: f64) -> String {
    format!("stroke=\"{colour}\" stroke-width=\"{width}\"")
}

/// How soon 3 times the errors are stopped, against how many good canaries are aborted: where
/// requests fail independently, and where they fail in clumps.
pub fn delay(results: &Results) -> String {
    let mut picture = Picture::new(1080.0, 470.0);
    let title = "Three times the errors: how soon they are stopped, and what that costs good canaries";
    picture.text([20.0, 26.0], title, BOLD);
    for (left, world, name) in [
        (60.0, "W1", "Requests fail independently"),
        (600.0, "W3", "Retries: errors come in clumps of 3"),
    ] {
        let panel = Panel {
            corner: [left, 70.0],
            size: [450.0, 340.0],
            most: 50.0,
        };
        panel.frame(&mut picture, name);
        panel.points(&mut picture, results, world);
    }
    picture.end()
}

/// Share of good canaries, on a logarithmic axis, against minutes.
struct Panel {
    corner: [f64; 2],
    size: [f64; 2],
    most: f64,
}

/// Shares below this are drawn at it.
const LEAST: f64 = 0.0001;
const DECADES: [(f64, &str); 5] = [
    (0.0001, "0.01 %"),
    (0.001, "0.1 %"),
    (0.01, "1 %"),
    (0.1, "10 %"),
    (1.0, "100 %"),
];

/// A judge in the panel: where its point lies, and what is written beside it.
struct Point {
    at: [f64; 2],
    span: [f64; 2],
    label: String,
    colour: &'static str,
}

impl Panel {
    fn x(&self, share: f64) -> f64 {
        self.corner[0] + self.size[0] * (1.0 - share.max(LEAST).log10() / LEAST.log10())
    }

    fn y(&self, minutes: f64) -> f64 {
        self.corner[1] + self.size[1] * (1.0 - minutes.min(self.most) / self.most)
    }

    fn frame(&self, picture: &mut Picture, name: &str) {
        let [left, top] = self.corner;
        let (right, bottom) = (left + self.size[0], top + self.size[1]);
        picture.area([left, top], [self.x(0.01), bottom], PROMISED);
        picture.text([left, top - 14.0], name, "font-weight=\"bold\" fill=\"#282c34\"");
        let promised = [left + 6.0, bottom - 8.0];
        picture.text(promised, "at most 1 %", "fill=\"#00654a\" font-size=\"11\"");
        for (share, said) in DECADES {
            picture.line([self.x(share), top], [self.x(share), bottom], &stroke(FAINT, 1.0));
            picture.text([self.x(share), bottom + 17.0], said, MIDDLE);
        }
        for minutes in [0.0, 10.0, 20.0, 30.0, 40.0, 50.0] {
            picture.line([left, self.y(minutes)], [right, self.y(minutes)], &stroke(FAINT, 1.0));
            picture.text([left - 8.0, self.y(minutes) + 4.0], &format!("{minutes}"), END);
        }
        let below = [f64::midpoint(left, right), bottom + 38.0];
        picture.text(
            below,
            "good canaries aborted, with 95 % interval; left is better",
            MIDDLE,
        );
        let (x, y) = (left - 36.0, f64::midpoint(top, bottom));
        let turned = format!("{MIDDLE} transform=\"rotate(-90 {x:.1} {y:.1})\"");
        picture.text([x, y], "minutes until the abort, mean; low is better", &turned);
    }

    fn points(&self, picture: &mut Picture, results: &Results, world: &str) {
        let row = |judge: &str, scenario: &str| {
            let mut rows = results.rows.iter();
            rows.find(|row| row.world == world && row.scenario == scenario && row.judge == judge)
        };
        let healthy = |row: &&Row| row.world == world && row.scenario == "healthy";
        let mut points = Vec::new();
        for good in results.rows.iter().filter(healthy) {
            let Some((bad, minutes)) = row(&good.judge, "3x").and_then(|bad| Some((bad, bad.delay.mean?.value))) else {
                continue;
            };
            if good.judge.starts_with("oracle") {
                let [y, left, right] = [self.y(minutes), self.corner[0], self.corner[0] + self.size[0]];
                let dashed = format!("{} stroke-dasharray=\"4 4\"", stroke(INK, 1.0));
                picture.line([left, y], [right, y], &dashed);
                let said = format!("an oracle that is told the ratio: {minutes:.1}");
                picture.text([left + 6.0, y + 14.0], &said, "fill=\"#282c34\" font-size=\"11\"");
            } else if let (Some(point), Some(found)) = (self.point(good, minutes), bad.aborted) {
                points.push(point.that_finds(found.value));
            }
        }
        self.draw(picture, points);
    }

    fn point(&self, good: &Row, minutes: f64) -> Option<Point> {
        let (_, name) = NAMES.iter().find(|(judge, _)| match judge.strip_prefix("**") {
            Some(_) => good.judge == *judge,
            None => good.judge.starts_with(judge),
        })?;
        let Figure { value, low, high } = good.aborted?;
        Some(Point {
            at: [self.x(value), self.y(minutes)],
            span: [self.x(low), self.x(high)],
            label: (*name).to_owned(),
            colour: if name.starts_with("Tollgate") { OURS } else { PEERS },
        })
    }

    /// Points with their labels: on the side where there is room, and one below the other.
    fn draw(&self, picture: &mut Picture, mut points: Vec<Point>) {
        points.sort_by(|one, other| one.at[1].total_cmp(&other.at[1]));
        let middle = self.corner[0] + 0.55 * self.size[0];
        let mut free = [f64::NEG_INFINITY; 2];
        for Point {
            at: [x, y],
            span: [low, high],
            label,
            colour,
        } in points
        {
            let leftwards = x > middle;
            let free = &mut free[usize::from(leftwards)];
            let at = y.max(*free);
            *free = at + 14.0;
            picture.line([low, y], [high, y], &stroke(colour, 2.0));
            picture.dot([x, y], colour);
            let (beside, anchor) = if leftwards {
                (x.min(low) - 9.0, "end")
            } else {
                (x.max(high) + 9.0, "start")
            };
            if at > y {
                let end = if leftwards { beside + 2.0 } else { beside - 2.0 };
                picture.line([x, y], [end, at], &stroke(colour, 0.6));
            }
            let style = format!("text-anchor=\"{anchor}\" fill=\"{colour}\" font-size=\"11\"");
            picture.text([beside, at + 4.0], &label, &style);
        }
    }
}

impl Point {
    /// Says so when not all of the bad canaries are found.
    fn that_finds(mut self, share: f64) -> Self {
        if share < 0.995 {
            let _ = write!(self.label, " (finds {:.0} %)", 100.0 * share);
        }
        self
    }
}

/// How long healthy releases take at their own pace, world by world.
pub fn pace(results: &Results) -> String {
    const LEFT: f64 = 360.0;
    const WIDE: f64 = 480.0;
    const MOST: f64 = 240.0;
    let worlds = worlds::all();
    let healthy = |id: &str| {
        let mut rows = results.rows.iter();
        rows.find(|row| row.place() == [id, "healthy", TO_THE_END])
    };
    let rows: Vec<_> = worlds
        .iter()
        .filter_map(|world| Some((world, healthy(world.id)?)))
        .collect();
    let (top, bottom) = (62.0, 62.0 + 26.0 * rows.len() as f64);
    let mut picture = Picture::new(1080.0, bottom + 60.0);
    let title = "Healthy releases at their own pace: minutes until all traffic, median and 90 %";
    picture.text([20.0, 26.0], title, BOLD);
    let x = |minutes: f64| LEFT + WIDE * minutes.min(MOST) / MOST;
    for minutes in [0.0, 30.0, 60.0, 90.0, 120.0, 150.0, 180.0, 210.0, 240.0] {
        picture.line([x(minutes), top - 8.0], [x(minutes), bottom], &stroke(FAINT, 1.0));
        picture.text([x(minutes), bottom + 17.0], &format!("{minutes}"), MIDDLE);
    }
    let fixed = (WEIGHTS.len() * STEP / MINUTE) as f64;
    let dashed = format!("{} stroke-dasharray=\"4 4\"", stroke(INK, 1.0));
    picture.line([x(fixed), top - 8.0], [x(fixed), bottom], &dashed);
    let said = format!("{fixed} min: the fixed schedule that the peers are measured with");
    picture.text([x(fixed) + 5.0, top - 14.0], &said, "fill=\"#282c34\" font-size=\"11\"");
    for (place, (world, row)) in rows.into_iter().enumerate() {
        let y = top + 26.0 * (place as f64 + 0.5);
        picture.text([20.0, y + 4.0], &format!("{} {}", world.id, world.name), START);
        if let (Some(half), Some(most)) = (row.time.p50, row.time.p90) {
            let [half, most] = [half.value, most.value].map(x);
            picture.line([half, y], [most, y], &stroke(OURS, 2.0));
            picture.line([most, y - 5.0], [most, y + 5.0], &stroke(OURS, 2.0));
            picture.dot([half, y], OURS);
        }
        let percent = |figure: Option<Figure>| figure.map_or(0.0, |figure| 100.0 * figure.value);
        let (through, aborted) = (percent(row.promoted), percent(row.aborted));
        let said = format!("{through:.1} % through, {aborted:.2} % aborted");
        picture.text([LEFT + WIDE + 14.0, y + 4.0], &said, START);
    }
    let below = "of the releases that got through within four hours";
    picture.text([x(MOST / 2.0), bottom + 40.0], below, MIDDLE);
    picture.end()
}
