//! One rule of a route: which of its backends are whose, and their weights.
//!
//! Weights are relative. A rule is split by multiplying every weight by 100, so that the service's
//! own weight falls into exact hundredths and everybody else's share stays what it was.

use serde_json::Value;
use sha2::{Digest as _, Sha256};

use super::note::{Kept, Original};
use super::{Error, Pair};
use crate::decision::Percent;

/// What a rule is multiplied by while it is split.
const SCALE: i64 = 100;

/// The largest weight that the Gateway API takes.
const HEAVIEST: i64 = 1_000_000;

/// The pairs on one route: ours, and those of the other gates that keep a note on it.
pub(super) struct Pairs<'a> {
    own: &'a Pair,
    others: Vec<Kept>,
}

impl<'a> Pairs<'a> {
    /// Others that claim our own Services are not believed.
    pub fn new(own: &'a Pair, others: impl IntoIterator<Item = Kept>) -> Self {
        let ours = |name: &String| *name == own.service || *name == own.canary;
        let others = others
            .into_iter()
            .filter(|k| !ours(&k.service) && !ours(&k.canary))
            .collect();
        Self { own, others }
    }

    /// The number of a pair (0 is ours), and its service's and canary's name.
    fn names(&self) -> impl Iterator<Item = (usize, &str, &str)> {
        let own = (self.own.service.as_str(), self.own.canary.as_str());
        let others = self.others.iter().map(|k| (k.service.as_str(), k.canary.as_str()));
        std::iter::once(own)
            .chain(others)
            .enumerate()
            .map(|(i, (service, canary))| (i, service, canary))
    }

    /// Whose service, or whose canary, a backend is.
    fn place(&self, backend: &Value) -> Place {
        let Some(name) = service_name(backend, &self.own.namespace) else {
            return Place::Foreign;
        };
        for (pair, service, canary) in self.names() {
            if name == service {
                return Place::Service(pair);
            }
            if name == canary {
                return Place::Canary(pair);
            }
        }
        Place::Foreign
    }

    fn service(&self, pair: usize) -> &str {
        self.names()
            .find(|(i, ..)| *i == pair)
            .map_or("", |(_, service, _)| service)
    }
}

/// Where a backend belongs; the number is the pair's, 0 is ours.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Place {
    Service(usize),
    Canary(usize),
    Foreign,
}

/// The name of the Service in the route's own namespace that a backend refers to, if it does.
fn service_name<'a>(backend: &'a Value, namespace: &str) -> Option<&'a str> {
    let is = |field: &str, wanted: &str| match backend.get(field) {
        None | Some(Value::Null) => true,
        Some(found) => found.as_str() == Some(wanted),
    };
    (is("kind", "Service") && is("group", "") && is("namespace", namespace))
        .then(|| backend.get("name").and_then(Value::as_str))
        .flatten()
}

/// One backend of the user's, with the canary that stands beside it.
struct Slot {
    /// Whose service it is; `None` for a foreign backend.
    pair: Option<usize>,
    /// The backend as it is now.
    item: Value,
    /// Its canary as it is now.
    canary: Option<Value>,
}

impl Slot {
    fn is_own(&self) -> bool {
        self.pair == Some(0)
    }

    /// Whether it is this pair's service, and has no canary yet.
    fn lacks(&self, pair: usize) -> bool {
        self.pair == Some(pair) && self.canary.is_none()
    }

    /// Whether a canary is the same but for name and weight.
    fn resembles(&self, canary: &Value) -> bool {
        let bare = |backend: &Value| named(with_weight(backend, None), "");
        bare(&self.item) == bare(canary)
    }

    /// Everything that reaches the backend or its canary.
    fn merged(&self) -> i64 {
        weight(&self.item) + self.canary.as_ref().map_or(0, weight)
    }
}

/// A rule taken apart.
pub(super) struct Rule {
    slots: Vec<Slot>,
    hash: String,
}

/// What one rule says about our pair.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Share {
    /// Whether the canary is named.
    pub named: bool,
    /// Its share of the service's traffic in percent, rounded up; `None` when the service gets none.
    pub percent: Option<Percent>,
    /// Whether the share is exactly that, everywhere in the rule.
    pub exact: bool,
}

impl Rule {
    /// Takes a rule apart; a rule without backends has no slots.
    pub fn read(rule: &Value, pairs: &Pairs) -> Self {
        let mut slots: Vec<Slot> = Vec::new();
        let mut lone: Vec<(usize, Value)> = Vec::new();
        for backend in rule.get("backendRefs").and_then(Value::as_array).into_iter().flatten() {
            match pairs.place(backend) {
                Place::Canary(pair) => match slots.iter_mut().rev().find(|s| s.lacks(pair) && s.resembles(backend)) {
                    Some(slot) => slot.canary = Some(backend.clone()),
                    None => lone.push((pair, backend.clone())),
                },
                Place::Service(pair) => {
                    slots.push(Slot {
                        pair: Some(pair),
                        item: backend.clone(),
                        canary: None,
                    });
                }
                Place::Foreign => slots.push(Slot {
                    pair: None,
                    item: backend.clone(),
                    canary: None,
                }),
            }
        }
        for (pair, backend) in lone {
            let same_port = |s: &Slot| s.item.get("port") == backend.get("port");
            let at = slots.iter().position(|s| s.lacks(pair) && same_port(s));
            let at = at.or_else(|| slots.iter().position(|s| s.lacks(pair)));
            if let Some(slot) = at.and_then(|at| slots.get_mut(at)) {
                slot.canary = Some(backend);
            } else {
                let item = named(with_weight(&backend, Some(0)), pairs.service(pair));
                slots.push(Slot {
                    pair: Some(pair),
                    item,
                    canary: Some(backend),
                });
            }
        }
        let hash = fingerprint(rule, &slots);
        Self { slots, hash }
    }

    /// Whether the rule names our service, or a canary of ours.
    pub fn is_own(&self) -> bool {
        self.slots.iter().any(Slot::is_own)
    }

    /// Whether the rule names our canary.
    pub fn names_own_canary(&self) -> bool {
        self.slots.iter().any(|s| s.is_own() && s.canary.is_some())
    }

    /// Whether the rule names another gate's canary.
    pub fn names_other_canary(&self) -> bool {
        self.slots.iter().any(|s| !s.is_own() && s.canary.is_some())
    }

    /// Our canary's share; `None` for a rule that is not about our service.
    pub fn share(&self) -> Option<Share> {
        if !self.is_own() {
            return None;
        }
        let mut found = Share {
            named: self.names_own_canary(),
            percent: None,
            exact: true,
        };
        for slot in self.slots.iter().filter(|s| s.is_own()) {
            let total = slot.merged();
            if total == 0 && slot.canary.is_none() {
                continue;
            }
            let canary = slot.canary.as_ref().map_or(0, weight) * 100;
            let (floor, part) = (
                canary.checked_div(total).unwrap_or(0),
                canary.checked_rem(total).unwrap_or(0),
            );
            let percent = Percent::try_from(floor + i64::from(part > 0)).unwrap_or(Percent::ALL);
            found.exact &= part == 0 && found.percent.is_none_or(|p| p == percent);
            found.percent = found.percent.max(Some(percent));
        }
        Some(found)
    }

    /// What the user wrote, as far as it can be known. `known` are the originals of all gates' notes,
    /// ours first; `seen` tells how many rules with the same hash came before this one; `last` is the
    /// weight that we wrote last.
    pub fn original(&self, known: &[Vec<Original>], seen: usize, last: Option<Percent>) -> Original {
        let fits = |o: &&Original| {
            o.weights.len() == self.slots.len() && o.weights.iter().flatten().all(|w| (0..=HEAVIEST).contains(w))
        };
        let found = known
            .iter()
            .find_map(|note| note.iter().filter(|o| o.rule == self.hash).nth(seen).filter(fits));
        let split = self.slots.iter().any(|s| s.canary.is_some());
        let weights = match found {
            Some(found) if split || last.is_some_and(|p| self.carries(&found.weights, p)) => found.weights.clone(),
            _ if split => self.unscaled(),
            _ => self.slots.iter().map(|s| explicit(&s.item)).collect(),
        };
        Original {
            rule: self.hash.clone(),
            weights,
        }
    }

    /// Whether the weights are those that we wrote for `share`, though no canary is named any more.
    fn carries(&self, original: &[Option<i64>], share: Percent) -> bool {
        self.slots.iter().zip(original).all(|(slot, wrote)| {
            let part = if slot.is_own() { i64::from(share.rest()) } else { SCALE };
            explicit(&slot.item) == Some(wrote.unwrap_or(1) * part)
        })
    }

    /// The weights before they were multiplied, for a rule of which nothing else is known.
    fn unscaled(&self) -> Vec<Option<i64>> {
        let merged = || self.slots.iter().map(Slot::merged);
        let scale = if merged().all(|w| w % SCALE == 0) { SCALE } else { 1 };
        merged().map(|w| Some(w / scale)).collect()
    }

    /// Splits the rule. The whole share at one side needs no hundredths, so it is never refused; a
    /// share of nothing brings no canary into a rule that names none.
    pub fn split(&mut self, original: &Original, share: Percent, pairs: &Pairs, at: usize) -> Result<(), Error> {
        let mut own = self
            .slots
            .iter()
            .zip(&original.weights)
            .filter(|(slot, _)| slot.is_own());
        let nothing = share == Percent::ZERO || own.all(|(_, weight)| *weight == Some(0));
        if nothing && !self.names_own_canary() {
            self.rest(original);
            return Ok(());
        }
        let scale = scale(original);
        if scale < SCALE && share != Percent::ZERO && share != Percent::ALL {
            return Err(self.too_heavy(at, original));
        }
        for (slot, wrote) in self.slots.iter_mut().zip(&original.weights) {
            let all = wrote.unwrap_or(1) * scale;
            if slot.is_own() {
                let to_canary = all / 100 * i64::from(share) + all % 100 * i64::from(share) / 100;
                slot.canary = (all > 0 || slot.canary.is_some())
                    .then(|| named(with_weight(&slot.item, Some(to_canary)), &pairs.own.canary));
                slot.item = with_weight(&slot.item, Some(all - to_canary));
            } else if slot.canary.is_none() {
                slot.item = with_weight(&slot.item, Some(all));
            }
        }
        Ok(())
    }

    fn too_heavy(&self, rule: usize, original: &Original) -> Error {
        let heaviest = self
            .slots
            .iter()
            .zip(&original.weights)
            .max_by_key(|(_, weight)| **weight);
        let name = heaviest
            .and_then(|(slot, _)| slot.item.get("name"))
            .and_then(Value::as_str);
        let weight = heaviest.and_then(|(_, weight)| *weight).unwrap_or(1);
        Error::TooHeavy {
            rule,
            backend: name.unwrap_or_default().to_owned(),
            weight,
        }
    }

    /// Takes our canary out. The last gate to leave a rule puts back what the user wrote.
    pub fn rest(&mut self, original: &Original) {
        let shared = self.names_other_canary();
        for (slot, wrote) in self.slots.iter_mut().zip(&original.weights) {
            if slot.is_own() {
                slot.canary = None;
            }
            if !shared {
                slot.item = with_weight(&slot.item, *wrote);
            } else if slot.is_own() {
                slot.item = with_weight(&slot.item, Some(wrote.unwrap_or(1) * scale(original)));
            }
        }
    }

    /// The backends, in the user's order, each canary behind its service.
    pub fn backends(&self) -> Value {
        self.slots
            .iter()
            .flat_map(|s| std::iter::once(&s.item).chain(&s.canary))
            .cloned()
            .collect()
    }

    /// The hash that finds this rule again.
    pub fn hash(&self) -> &str {
        &self.hash
    }
}

/// What the rule is multiplied by: weights too large for hundredths stay as they are.
fn scale(original: &Original) -> i64 {
    if original.weights.iter().flatten().any(|w| *w > HEAVIEST / SCALE) {
        1
    } else {
        SCALE
    }
}

/// A weight that is written out.
fn explicit(backend: &Value) -> Option<i64> {
    backend
        .get("weight")
        .filter(|w| !w.is_null())
        .map(|w| w.as_i64().map_or(1, |w| w.clamp(0, HEAVIEST)))
}

/// The weight that counts: an omitted one means 1.
fn weight(backend: &Value) -> i64 {
    explicit(backend).unwrap_or(1)
}

fn with_weight(backend: &Value, weight: Option<i64>) -> Value {
    let mut backend = backend.clone();
    if let Some(fields) = backend.as_object_mut() {
        match weight {
            Some(weight) => fields.insert("weight".to_owned(), weight.into()),
            None => fields.remove("weight"),
        };
    }
    backend
}

fn named(mut backend: Value, name: &str) -> Value {
    if let Some(fields) = backend.as_object_mut() {
        fields.insert("name".to_owned(), name.into());
    }
    backend
}

/// A hash of everything in the rule that we never change.
fn fingerprint(rule: &Value, slots: &[Slot]) -> String {
    let mut bare = rule.clone();
    if let Some(fields) = bare.as_object_mut() {
        let backends: Value = slots.iter().map(|s| with_weight(&s.item, None)).collect();
        fields.insert("backendRefs".to_owned(), backends);
    }
    let bytes = serde_json_canonicalizer::to_vec(&bare).unwrap_or_default();
    format!("{:.12x}", Sha256::digest(bytes))
}
