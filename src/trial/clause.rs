//! What a rule asks: an expression whose names and types are known, and its answer.

use std::collections::BTreeSet;

use super::environment::{Environment, FIELDS, Field, Known, Look, Of, STATES, WHOLES, Whole};
use super::expression::{Fault, Node, Sign, parse};

/// One metric as far as rules have to know it beforehand.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Described {
    /// Its name.
    pub name: String,
    /// Whether it is a ratio of counters.
    pub ratio: bool,
    /// Whether it is a histogram with a quantile.
    pub quantile: bool,
    /// Whether it is a gauge, which has no numbers that are compared.
    pub gauge: bool,
}

impl Described {
    fn has(&self, of: Of) -> bool {
        match of {
            Of::All => !self.gauge,
            Of::Ratios => self.ratio,
            Of::Quantiles => self.quantile,
        }
    }
}

/// A number that a rule reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Read {
    /// Of the metric at this place.
    Metric(usize, Field),
    /// Of the release.
    Release(Whole),
}

/// True or false.
#[derive(Debug, Clone, PartialEq)]
enum Truth {
    Constant(bool),
    Not(Box<Truth>),
    And(Box<Truth>, Box<Truth>),
    Or(Box<Truth>, Box<Truth>),
    Equal(Box<Truth>, Box<Truth>),
    Compare(Sign, Term, Term),
    /// Whether so much is known of a metric, or of all of them.
    Is(Option<usize>, Known),
}

/// A number.
#[derive(Debug, Clone, PartialEq)]
enum Term {
    Constant(f64),
    Read(Read),
    Minus(Box<Term>),
    Both(Sign, Box<Term>, Box<Term>),
}

/// A part of an expression whose type is known.
enum Typed {
    Truth(Truth),
    Number(Term),
    Text(String),
    State(Option<usize>),
}

/// Why there is no answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Unknown {
    /// A number that is read is not known.
    Missing(Read),
    /// The arithmetic has no finite result.
    Infinite,
}

/// An expression that is true, false, or without an answer.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Clause {
    truth: Truth,
    /// The numbers that it reads, in the order of metrics.
    pub reads: BTreeSet<Read>,
    /// The metrics whose state it asks for; `None` is all of them.
    pub states: BTreeSet<Option<usize>>,
}

impl Clause {
    /// Reads an expression over these metrics.
    ///
    /// # Errors
    /// What would be accepted instead.
    pub(super) fn read(text: &str, metrics: &[Described]) -> Result<Self, Fault> {
        let mut scope = Scope {
            metrics,
            reads: BTreeSet::new(),
            states: BTreeSet::new(),
        };
        let truth = scope.truth(&parse(text)?)?;
        Ok(Self {
            truth,
            reads: scope.reads,
            states: scope.states,
        })
    }

    /// How often it may be asked: as often as the most delicate number that it reads.
    pub(super) fn look(&self) -> Look {
        let looks = self.reads.iter().map(|read| match read {
            Read::Metric(_, field) => FIELDS
                .iter()
                .find(|(_, known, ..)| known == field)
                .map_or(Look::OncePerWindow, |(.., look)| *look),
            Read::Release(_) => Look::Always,
        });
        looks.max().unwrap_or(Look::Always)
    }

    /// The metrics that it reads numbers of.
    pub(super) fn metrics(&self) -> BTreeSet<usize> {
        let metric = |read: &Read| match read {
            Read::Metric(metric, _) => Some(*metric),
            Read::Release(_) => None,
        };
        self.reads.iter().filter_map(metric).collect()
    }

    /// The answer, where there is one: as CEL has it, one side of `||` or `&&` that decides makes up
    /// for another without an answer.
    pub(super) fn answer(&self, environment: &Environment) -> Result<bool, Unknown> {
        self.truth.answer(environment)
    }
}

impl Truth {
    fn answer(&self, environment: &Environment) -> Result<bool, Unknown> {
        match self {
            Self::Constant(value) => Ok(*value),
            Self::Not(inner) => Ok(!inner.answer(environment)?),
            Self::And(one, other) => decided(one.answer(environment), other.answer(environment), false),
            Self::Or(one, other) => decided(one.answer(environment), other.answer(environment), true),
            Self::Equal(one, other) => Ok(one.answer(environment)? == other.answer(environment)?),
            Self::Compare(sign, one, other) => {
                let order = one.value(environment)?.partial_cmp(&other.value(environment)?);
                let order = order.ok_or(Unknown::Infinite)?;
                Ok(match sign {
                    Sign::Less => order.is_lt(),
                    Sign::AtMost => order.is_le(),
                    Sign::More => order.is_gt(),
                    Sign::AtLeast => order.is_ge(),
                    Sign::Equal => order.is_eq(),
                    _ => order.is_ne(),
                })
            }
            Self::Is(metric, state) => Ok(environment.known(*metric) == *state),
        }
    }
}

/// Two answers, of which one of this value is enough.
fn decided(one: Result<bool, Unknown>, other: Result<bool, Unknown>, enough: bool) -> Result<bool, Unknown> {
    if one == Ok(enough) || other == Ok(enough) {
        return Ok(enough);
    }
    one?;
    other
}

impl Term {
    fn value(&self, environment: &Environment) -> Result<f64, Unknown> {
        let value = match self {
            Self::Constant(value) => *value,
            Self::Read(read) => read.value(environment).ok_or(Unknown::Missing(*read))?,
            Self::Minus(inner) => -inner.value(environment)?,
            Self::Both(sign, one, other) => {
                let (one, other) = (one.value(environment)?, other.value(environment)?);
                match sign {
                    Sign::Plus => one + other,
                    Sign::Minus => one - other,
                    Sign::Times => one * other,
                    _ => one / other,
                }
            }
        };
        if value.is_finite() {
            Ok(value)
        } else {
            Err(Unknown::Infinite)
        }
    }
}

impl Read {
    /// The number, when it is known.
    pub(super) fn value(self, environment: &Environment) -> Option<f64> {
        match self {
            Self::Metric(metric, field) => environment.metrics.get(metric)?.get(field),
            Self::Release(field) => Some(environment.whole(field)),
        }
    }

    /// The name of its field.
    pub(super) fn field(self) -> &'static str {
        match self {
            Self::Metric(_, field) => FIELDS
                .iter()
                .find(|(_, known, ..)| *known == field)
                .map(|found| found.0),
            Self::Release(field) => WHOLES.iter().find(|(_, known)| *known == field).map(|found| found.0),
        }
        .unwrap_or_default()
    }
}

/// The metrics that an expression may name, and what it was found to read.
struct Scope<'a> {
    metrics: &'a [Described],
    reads: BTreeSet<Read>,
    states: BTreeSet<Option<usize>>,
}

impl Scope<'_> {
    fn truth(&mut self, node: &Node) -> Result<Truth, Fault> {
        match self.typed(node)? {
            Typed::Truth(truth) => Ok(truth),
            other => Err(Fault(format!(
                "true or false, not {}; compare it: metrics[\"errors\"].delta < 0.1",
                other.kind()
            ))),
        }
    }

    fn number(&mut self, node: &Node) -> Result<Term, Fault> {
        match self.typed(node)? {
            Typed::Number(term) => Ok(term),
            other => Err(Fault(format!(
                "an expression with a number in the place of {}",
                other.kind()
            ))),
        }
    }

    fn typed(&mut self, node: &Node) -> Result<Typed, Fault> {
        Ok(match node {
            Node::Number(value) => Typed::Number(Term::Constant(*value)),
            Node::Text(text) => Typed::Text(text.clone()),
            Node::Truth(value) => Typed::Truth(Truth::Constant(*value)),
            Node::Not(inner) => Typed::Truth(Truth::Not(Box::new(self.truth(inner)?))),
            Node::Minus(inner) => Typed::Number(Term::Minus(Box::new(self.number(inner)?))),
            Node::Both(sign, one, other) => self.both(*sign, one, other)?,
            Node::Name(_) | Node::Field(..) | Node::Index(..) => self.read(node)?,
        })
    }

    fn both(&mut self, sign: Sign, one: &Node, other: &Node) -> Result<Typed, Fault> {
        Ok(match sign {
            Sign::And => Typed::Truth(Truth::And(Box::new(self.truth(one)?), Box::new(self.truth(other)?))),
            Sign::Or => Typed::Truth(Truth::Or(Box::new(self.truth(one)?), Box::new(self.truth(other)?))),
            Sign::Plus | Sign::Minus | Sign::Times | Sign::Divided => Typed::Number(Term::Both(
                sign,
                Box::new(self.number(one)?),
                Box::new(self.number(other)?),
            )),
            Sign::Equal | Sign::Unequal => {
                let equal = match (self.typed(one)?, self.typed(other)?) {
                    (Typed::Number(one), Typed::Number(other)) => {
                        return Ok(Typed::Truth(Truth::Compare(sign, one, other)));
                    }
                    (Typed::Truth(one), Typed::Truth(other)) => Truth::Equal(Box::new(one), Box::new(other)),
                    (Typed::State(metric), Typed::Text(text)) | (Typed::Text(text), Typed::State(metric)) => {
                        Truth::Is(metric, state(&text)?)
                    }
                    (one, other) => {
                        let (one, other) = (one.kind(), other.kind());
                        return Err(Fault(format!(
                            "an expression that compares the like, not {one} with {other}"
                        )));
                    }
                };
                Typed::Truth(match sign {
                    Sign::Equal => equal,
                    _ => Truth::Not(Box::new(equal)),
                })
            }
            Sign::Less | Sign::AtMost | Sign::More | Sign::AtLeast => {
                Typed::Truth(Truth::Compare(sign, self.number(one)?, self.number(other)?))
            }
        })
    }

    /// `metrics["http-errors"].delta`, `metrics.errors.delta` or `release.weight`.
    fn read(&mut self, node: &Node) -> Result<Typed, Fault> {
        let Node::Field(of, field) = node else {
            return Err(self.unread(node));
        };
        let metric = match &**of {
            Node::Name(name) if name == "release" => None,
            Node::Field(metrics, name) if is_metrics(metrics) => Some(self.metric(name)?),
            Node::Index(metrics, key) if is_metrics(metrics) => match &**key {
                Node::Text(name) => Some(self.metric(name)?),
                _ => return Err(Fault("the name of a metric in quotes between [ and ]".into())),
            },
            _ => return Err(self.unread(node)),
        };
        if field == "evidence" {
            let index = metric.map(|(index, _)| index);
            self.states.insert(index);
            return Ok(Typed::State(index));
        }
        let read = match metric {
            None => WHOLES
                .iter()
                .find(|(text, _)| text == field)
                .map(|(_, whole)| Read::Release(*whole))
                .ok_or_else(|| unknown_field("release", field, WHOLES.map(|(text, _)| text)))?,
            Some((index, described)) => {
                let known = || FIELDS.iter().filter(|(_, _, of, _)| described.has(*of));
                let found = known().find(|(text, ..)| text == field);
                let (_, found, ..) =
                    found.ok_or_else(|| unknown_field(&described.name, field, known().map(|(text, ..)| *text)))?;
                Read::Metric(index, *found)
            }
        };
        self.reads.insert(read);
        Ok(Typed::Number(Term::Read(read)))
    }

    fn metric(&self, name: &str) -> Result<(usize, Described), Fault> {
        let found = self.metrics.iter().enumerate().find(|(_, metric)| metric.name == name);
        found
            .map(|(index, metric)| (index, metric.clone()))
            .ok_or_else(|| Fault(format!("an expression over {}, not {name:?}", self.known())))
    }

    /// The metrics there are, as they are written.
    fn known(&self) -> String {
        let names: Vec<String> = self
            .metrics
            .iter()
            .map(|metric| format!("metrics[\"{}\"]", metric.name))
            .collect();
        names.join(", ")
    }

    fn unread(&self, node: &Node) -> Fault {
        let what = match node {
            Node::Name(name) => name.as_str(),
            Node::Field(_, field) => field.as_str(),
            _ => "what is written",
        };
        Fault(format!(
            "a field of release or of {} in the place of {what}, like .delta",
            self.known()
        ))
    }
}

impl Typed {
    const fn kind(&self) -> &'static str {
        match self {
            Self::Truth(_) => "true or false",
            Self::Number(_) => "a number",
            Self::Text(_) => "a text",
            Self::State(_) => "a state of evidence",
        }
    }
}

fn is_metrics(node: &Node) -> bool {
    matches!(node, Node::Name(name) if name == "metrics")
}

fn unknown_field<'a>(of: &str, field: &str, known: impl IntoIterator<Item = &'a str>) -> Fault {
    let known: Vec<&str> = ["evidence"].into_iter().chain(known).collect();
    Fault(format!(
        "an expression over fields that {of} has, which are {}, not {field}",
        known.join(", ")
    ))
}

fn state(text: &str) -> Result<Known, Fault> {
    let found = STATES.iter().find(|(known, _)| *known == text);
    found.map(|(_, state)| *state).ok_or_else(|| {
        let known = STATES.map(|(known, _)| format!("\"{known}\"")).join(", ");
        Fault(format!(
            "an expression that compares evidence with one of {known}, not \"{text}\""
        ))
    })
}
