//! A user's selector in `PromQL`: parsed, checked, and rendered with the matchers we add.
//!
//! The text a user typed is never sent. What is sent is rendered from the parsed matchers, and
//! [`Selector::render`] proves that it parses back to exactly what was meant.

use std::collections::BTreeSet;
use std::fmt;

use promql_parser::label::{MatchOp, Matcher};
use promql_parser::parser::{Expr, VectorSelector, parse};

/// Longest selector that is read.
const LONGEST: usize = 1024;

/// How a label is compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Op {
    Equal,
    NotEqual,
    Match,
    NotMatch,
}

impl Op {
    const fn sign(self) -> &'static str {
        match self {
            Self::Equal => "=",
            Self::NotEqual => "!=",
            Self::Match => "=~",
            Self::NotMatch => "!~",
        }
    }
}

/// A comparison of one label with a value; the value as it is meant, not as it is written.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Comparison {
    pub(super) label: String,
    pub(super) op: Op,
    pub(super) value: String,
}

/// A plain selector of counters: a metric name and comparisons of labels, in canonical order.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Selector {
    metric: String,
    comparisons: BTreeSet<Comparison>,
}

/// Why a selector is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` cannot be used: {why}; write a counter with label matchers, such as orders_total{{code=\"500\"}}")]
pub struct SelectorError {
    /// What was written, shortened.
    pub text: String,
    /// What is wrong with it.
    pub why: String,
}

/// What makes an expression doubtful, whether or not it is accepted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SelectorDoubt {
    /// It answers where there is nothing: the part of it that does.
    MasksAbsence(&'static str),
    /// By its name it is no counter: why.
    NotACounter(String),
}

/// Looks for what makes an expression doubtful; nothing in what is no PromQL.
#[must_use]
pub fn doubt(text: &str) -> Option<SelectorDoubt> {
    let expression = parse(text).ok()?;
    if let Some(what) = mask(&expression) {
        return Some(SelectorDoubt::MasksAbsence(what));
    }
    let Expr::VectorSelector(VectorSelector { name: Some(name), .. }) = &expression else {
        return None;
    };
    let counts = ["_total", "_count", "_sum", "_bucket"]
        .iter()
        .any(|ending| name.ends_with(ending));
    let why = if counts || name.ends_with(":total") {
        return None;
    } else if name.contains(':') {
        format!("{name} is named like the result of a recording rule, most of which are rates")
    } else {
        format!("{name} does not end in _total, as counters do")
    };
    Some(SelectorDoubt::NotACounter(why))
}

/// The part of an expression that answers where there is nothing.
fn mask(expression: &Expr) -> Option<&'static str> {
    match expression {
        Expr::Call(call) => match call.func.name {
            "vector" => Some("vector()"),
            "absent" => Some("absent()"),
            "absent_over_time" => Some("absent_over_time()"),
            _ => call.args.args.iter().find_map(|argument| mask(argument)),
        },
        Expr::Binary(binary) => {
            let compares = binary.modifier.as_ref().is_some_and(|modifier| modifier.return_bool);
            let either = mask(&binary.lhs).or_else(|| mask(&binary.rhs));
            either.or(compares.then_some("bool"))
        }
        Expr::Aggregate(aggregate) => mask(&aggregate.expr),
        Expr::Unary(unary) => mask(&unary.expr),
        Expr::Paren(paren) => mask(&paren.expr),
        Expr::Subquery(subquery) => mask(&subquery.expr),
        _ => None,
    }
}

impl Selector {
    /// Reads what a user wrote.
    ///
    /// # Errors
    /// [`SelectorError`] for everything but one metric name with label matchers: functions,
    /// operators, ranges, offsets, `@`, alternatives by `or`, back-quoted strings, escapes other
    /// than `\\` and `\"`, and control characters.
    pub fn parse(text: &str) -> Result<Self, SelectorError> {
        read(text).map_err(|why| SelectorError {
            text: text.chars().filter(|c| !c.is_control()).take(80).collect(),
            why,
        })
    }

    /// A selector of ours; `metric` is a constant.
    pub(super) fn of(metric: &str) -> Self {
        Self {
            metric: metric.to_owned(),
            comparisons: BTreeSet::new(),
        }
    }

    /// The same comparisons of a metric with a longer name.
    pub(super) fn with_ending(self, ending: &str) -> Self {
        Self {
            metric: self.metric + ending,
            ..self
        }
    }

    /// The metric's name.
    #[must_use]
    pub fn metric(&self) -> &str {
        &self.metric
    }

    /// The first of these labels that the user compares, if any: those are ours to set.
    #[must_use]
    pub fn compares<'a>(&self, labels: &[&'a str]) -> Option<&'a str> {
        let compared = |label: &&&str| self.comparisons.iter().any(|found| found.label == **label);
        labels.iter().find(compared).copied()
    }

    /// The selector with further comparisons, rendered and proved to parse back to the same.
    ///
    /// # Errors
    /// [`SelectorError`] when a label is compared by both, or when the text would not mean what
    /// was meant.
    pub(super) fn render(&self, added: &[Comparison]) -> Result<String, SelectorError> {
        let refuse = |why: String| SelectorError {
            text: self.to_string().chars().take(80).collect(),
            why,
        };
        let labels: Vec<&str> = added.iter().map(|comparison| comparison.label.as_str()).collect();
        if let Some(label) = self.compares(&labels) {
            return Err(refuse(format!("the label {label} is matched by Tollgate itself")));
        }
        let mut meant = self.clone();
        meant.comparisons.extend(added.iter().cloned());
        let text = meant.to_string();
        match parse_plain(&text) {
            Ok(sent) if sent == meant => Ok(text),
            _ => Err(refuse("it cannot be written down unambiguously".to_owned())),
        }
    }
}

impl fmt::Display for Selector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.metric)?;
        for (place, Comparison { label, op, value }) in self.comparisons.iter().enumerate() {
            let before = if place == 0 { '{' } else { ',' };
            write!(f, "{before}{label}{}\"{}\"", op.sign(), escape(value))?;
        }
        if self.comparisons.is_empty() {
            Ok(())
        } else {
            f.write_str("}")
        }
    }
}

fn read(text: &str) -> Result<Selector, String> {
    if text.len() > LONGEST {
        return Err(format!("it is longer than {LONGEST} bytes"));
    }
    if text.chars().any(|c| c.is_control() || c == '`' || c == '#') {
        return Err("back quotes, comments and control characters are not read".to_owned());
    }
    parse_plain(text.trim())
}

fn parse_plain(text: &str) -> Result<Selector, String> {
    let expression = parse(text).map_err(|_| "it is not PromQL".to_owned())?;
    let Expr::VectorSelector(VectorSelector {
        name,
        matchers,
        offset,
        at,
    }) = expression
    else {
        return Err("only a plain selector is read, without functions, operators and ranges".to_owned());
    };
    if offset.is_some() || at.is_some() {
        return Err("offset and @ are not read, the time is Tollgate's".to_owned());
    }
    if !matchers.or_matchers.is_empty() {
        return Err("alternatives by `or` are not read".to_owned());
    }
    let Some(metric) = name.filter(|name| is_metric(name)) else {
        return Err("the metric's name is missing in front of the braces".to_owned());
    };
    let comparisons = matchers.matchers.iter().map(compare).collect::<Result<_, _>>()?;
    Ok(Selector { metric, comparisons })
}

fn compare(matcher: &Matcher) -> Result<Comparison, String> {
    if matcher.name == "__name__" {
        return Err("the metric's name belongs in front of the braces".to_owned());
    }
    let op = match matcher.op {
        MatchOp::Equal => Op::Equal,
        MatchOp::NotEqual => Op::NotEqual,
        MatchOp::Re(_) => Op::Match,
        MatchOp::NotRe(_) => Op::NotMatch,
    };
    Ok(Comparison {
        label: matcher.name.clone(),
        op,
        value: unescape(&matcher.value)?,
    })
}

fn is_metric(name: &str) -> bool {
    let first = |c: char| c.is_ascii_alphabetic() || c == '_' || c == ':';
    name.starts_with(first) && name.chars().all(|c| first(c) || c.is_ascii_digit())
}

/// The parser keeps values as they stand between the quotes. Only the two escapes that every
/// reader agrees on are accepted.
fn unescape(written: &str) -> Result<String, String> {
    let mut meant = String::with_capacity(written.len());
    let mut rest = written.chars();
    while let Some(c) = rest.next() {
        match c {
            '\\' => match rest.next() {
                Some(escaped @ ('\\' | '"')) => meant.push(escaped),
                _ => return Err("in strings only the escapes \\\\ and \\\" are read".to_owned()),
            },
            '"' => return Err("a double quote within a string is written \\\"".to_owned()),
            c if c.is_control() => return Err("control characters are not read".to_owned()),
            c => meant.push(c),
        }
    }
    Ok(meant)
}

fn escape(meant: &str) -> String {
    meant.replace('\\', "\\\\").replace('"', "\\\"")
}

/// A regular expression (RE2, anchored by Prometheus) that matches exactly these names.
pub(super) fn one_of<'a>(names: impl IntoIterator<Item = &'a str>) -> String {
    let quoted: BTreeSet<String> = names.into_iter().map(quote).collect();
    quoted.into_iter().collect::<Vec<_>>().join("|")
}

/// A name as a regular expression that matches nothing else.
pub(super) fn quote(name: &str) -> String {
    let mut quoted = String::with_capacity(name.len());
    for c in name.chars() {
        if c.is_ascii_punctuation() && c != '-' && c != '_' && c != '/' && c != ':' && c != '@' {
            quoted.push('\\');
        }
        quoted.push(c);
    }
    quoted
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plain_selector_is_kept_as_it_was_meant() {
        for (written, sent) in [
            ("orders_total", "orders_total"),
            ("orders_total{}", "orders_total"),
            (r#"orders_total{b="1", a!="2",}"#, r#"orders_total{a!="2",b="1"}"#),
            (
                r#"http_requests_total{code=~"5..",path!~"/(health|ready)"}"#,
                r#"http_requests_total{code=~"5..",path!~"/(health|ready)"}"#,
            ),
            (r#"x{a="say \"hi\" \\ bye"}"#, r#"x{a="say \"hi\" \\ bye"}"#),
            (r"x{a='5'}", r#"x{a="5"}"#),
            (r#"x{a=~"/api\\.v1"}"#, r#"x{a=~"/api\\.v1"}"#),
            ("job:orders:total", "job:orders:total"),
        ] {
            let selector = Selector::parse(written).expect(written);
            assert_eq!(selector.render(&[]).expect(written), sent);
        }
    }

    #[test]
    fn anything_but_a_plain_selector_is_refused() {
        for written in [
            "",
            "rate(orders_total[5m])",
            "orders_total[5m]",
            "orders_total offset 5m",
            "orders_total @ 0",
            "orders_total[5m:1m]",
            "sum(orders_total)",
            "orders_total + orders_total",
            "orders_total or vector(0)",
            "-orders_total",
            "1",
            "\"text\"",
            r#"{job="x"}"#,
            r#"{__name__="orders_total"}"#,
            r#"orders_total{__name__="other_total"}"#,
            r#"orders_total{a="1" or b="2"}"#,
            "orders_total{a=`1`}",
            r#"orders_total{a="\n"}"#,
            r#"orders_total{a="\x22"}"#,
            "orders_total{a=\"line\nbreak\"}",
            r#"orders_total{a='quote " inside'}"#,
            r#"orders_total{a="1"} # {b="2"}"#,
            r#"orders_total{a=~"("}"#,
            "orders_total{a=\"unterminated",
        ] {
            let refused = Selector::parse(written);
            assert!(refused.is_err(), "{written} was read as {refused:?}");
        }
        assert!(Selector::parse(&format!("x{{a=\"{}\"}}", "y".repeat(LONGEST))).is_err());
    }

    #[test]
    fn what_makes_an_expression_doubtful_is_named() {
        for (text, masks, counter) in [
            ("orders_total", None, true),
            (r#"orders_total{code="500"}"#, None, true),
            ("orders_total or vector(0)", Some("vector()"), true),
            ("sum(rate(orders_total[5m])) or vector(0)", Some("vector()"), true),
            ("absent(orders_total)", Some("absent()"), true),
            (
                "sum(-(absent_over_time(orders_total[5m])))",
                Some("absent_over_time()"),
                true,
            ),
            ("orders_total > bool 0", Some("bool"), true),
            ("orders_total > 0", None, true),
            ("orders", None, false),
            ("job:orders:rate5m", None, false),
            ("job:orders:total", None, true),
            ("memory_bytes", None, false),
            ("latency_seconds_count", None, true),
            ("not promql (", None, true),
        ] {
            let found = doubt(text);
            let expected = match (masks, counter) {
                (Some(what), _) => matches!(found, Some(SelectorDoubt::MasksAbsence(found)) if found == what),
                (None, true) => found.is_none(),
                (None, false) => matches!(found, Some(SelectorDoubt::NotACounter(_))),
            };
            assert!(expected, "{text}: {found:?}");
        }
    }

    #[test]
    fn a_label_that_we_match_cannot_be_matched_by_the_user() {
        let selector = Selector::parse(r#"orders_total{namespace=~".*"}"#).expect("plain");
        let ours = Comparison {
            label: "namespace".to_owned(),
            op: Op::Equal,
            value: "shop".to_owned(),
        };
        let error = selector.render(&[ours]).expect_err("both match it").to_string();
        assert!(error.contains("namespace"), "{error}");
    }

    #[test]
    fn hostile_values_stay_inside_their_quotes() {
        for hostile in [
            r#"" or on() up{x=""#,
            r#"shop"} or {a="b"#,
            r"back\slash",
            r"ends with \",
            r#"\""#,
            "a|b",
            ".*",
            "ünïcode",
            "$(x)`y`",
            "a,b}",
        ] {
            for (op, value) in [(Op::Equal, hostile.to_owned()), (Op::Match, one_of([hostile]))] {
                let ours = Comparison {
                    label: "namespace".to_owned(),
                    op,
                    value,
                };
                let rendered = Selector::of("up").render(std::slice::from_ref(&ours)).expect(hostile);
                let back = parse_plain(&rendered).expect(hostile);
                assert_eq!(back.comparisons, BTreeSet::from([ours]), "{hostile}");
            }
        }
    }

    #[test]
    fn a_quoted_name_matches_itself_alone() {
        assert_eq!(one_of(["b.c", "a"]), r"a|b\.c");
        let Ok(Expr::VectorSelector(parsed)) = parse(&format!("up{{a=~\"{}\"}}", escape(&one_of(["b.c", "a"])))) else {
            panic!("a vector selector");
        };
        let matcher = parsed.matchers.matchers.first().expect("one matcher");
        for (name, matched) in [("b.c", true), ("a", true), ("bxc", false), ("aa", false), ("", false)] {
            assert_eq!(matcher.is_match(name), matched, "{name}");
        }
    }
}
