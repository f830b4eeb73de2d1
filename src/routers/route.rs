//! A route as a whole: what it says, and what it becomes. No calls; from JSON to JSON.

use serde_json::{Value, json};

use super::note::{Kept, Note, Original, Owner};
use super::programmed::programmed;
use super::rules::{Pairs, Rule};
use super::{Error, Pair, SPLIT_LABEL, owners};
use crate::decision::{Mark, Percent, RouteFact, SafeTarget, Split};

/// How a pair leaves a route.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ending {
    /// The latest attempt that the decision knew of; a later one's split is left alone.
    pub attempt: i64,
    /// What stays in the annotation.
    pub keep: Keep,
}

/// What stays of our annotation when a route is put back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Keep {
    /// The fence of an aborted attempt, so that this attempt never raises again.
    Fence,
    /// Nothing: the gate is going away.
    Nothing,
}

/// What a route says about a pair; `None` for a route that does not exist.
#[must_use]
pub fn facts(route: Option<&Value>, pair: &Pair) -> RouteFact {
    let Some(route) = route else {
        return RouteFact {
            split: Split::Missing,
            mark: None,
            programmed: false,
        };
    };
    let own = Note::of(route, pair);
    let split = if is_anothers(route, pair, own.as_ref()) {
        Split::Missing
    } else {
        split(route, pair)
    };
    RouteFact {
        split,
        mark: own.map(|n| n.mark),
        programmed: programmed(route),
    }
}

/// Whether the pair has left the route, but the last write that gives the rules back to their
/// former manager has not happened: restoring once more does it.
#[must_use]
pub fn hand_back_due(route: &Value, pair: &Pair) -> bool {
    Note::of(route, pair).is_some_and(|n| n.split.is_none() && !n.owners.is_empty())
}

/// Whether another gate splits the same Service here, and we, whose note is `own`, do not: then the
/// pair is not ours to put right.
fn is_anothers(route: &Value, pair: &Pair, own: Option<&Note>) -> bool {
    let same = |kept: &Kept| kept.service == pair.service || kept.canary == pair.canary;
    own.is_none()
        && Note::others(route, pair)
            .iter()
            .filter_map(|n| n.split.as_ref())
            .any(same)
}

fn split(route: &Value, pair: &Pair) -> Split {
    let shares: Vec<_> = read(route, &pairs(route, pair))
        .iter()
        .filter_map(Rule::share)
        .collect();
    let percents = || shares.iter().filter_map(|s| s.percent);
    let Some(largest) = percents().max() else {
        return Split::Missing;
    };
    if !shares.iter().any(|s| s.named) {
        return Split::AtRest;
    }
    if shares.iter().all(|s| s.exact) && percents().all(|p| p == largest) {
        Split::At(largest)
    } else {
        Split::Uneven(largest)
    }
}

/// The route with the mark's weight in every rule that names the pair, and the mark itself.
///
/// # Errors
/// [`Error::Fenced`], [`Error::Taken`], [`Error::NoService`] and [`Error::TooHeavy`]. A write of the weight that the
/// route's own mark calls safe meets none of them.
pub(super) fn split_at(route: &Value, pair: &Pair, mark: &Mark) -> Result<Value, Error> {
    let live = Note::of(route, pair);
    let mark = admit(live.as_ref().map(|n| &n.mark), mark)?;
    let pairs = pairs(route, pair);
    let mut rules = read(route, &pairs);
    if is_anothers(route, pair, live.as_ref()) {
        return Err(Error::Taken(pair.service.clone()));
    }
    if mark.weight != mark.safe.weight() && !rules.iter().filter_map(Rule::share).any(|s| s.percent.is_some()) {
        return Err(Error::NoService(pair.service.clone()));
    }
    let originals = originals(route, pair, &rules);
    for (at, (rule, original)) in rules.iter_mut().zip(&originals).enumerate() {
        if rule.is_own() {
            rule.split(original, mark.weight, &pairs, at)?;
        }
    }
    let named = rules.iter().any(Rule::names_own_canary);
    let own = rules.iter().zip(&originals).filter(|(rule, _)| rule.is_own());
    let kept = named.then(|| Kept {
        service: pair.service.clone(),
        canary: pair.canary.clone(),
        original: own.map(|(_, original)| original.clone()).collect(),
    });
    let owners = if named {
        former_owners(route, pair, live)
    } else {
        live.map(|n| n.owners).unwrap_or_default()
    };
    let note = Note {
        mark,
        split: kept,
        owners,
    };
    Ok(assembled(route, pair, &rules, Some(&note)))
}

/// The route as the user wrote it, as far as this pair is concerned. Rules still have to be handed
/// back afterwards, see [`handed_back`].
///
/// # Errors
/// [`Error::Fenced`] when the route carries a later attempt than the one that is ending.
pub(super) fn restored(route: &Value, pair: &Pair, ending: Ending) -> Result<Value, Error> {
    let live = Note::of(route, pair);
    if let Some(mark) = live.as_ref().map(|n| &n.mark).filter(|m| m.epoch > ending.attempt) {
        return Err(refused(mark, ending.attempt, Percent::ZERO));
    }
    if is_anothers(route, pair, live.as_ref()) {
        return Ok(route.clone());
    }
    let mut rules = read(route, &pairs(route, pair));
    let originals = originals(route, pair, &rules);
    for (rule, original) in rules.iter_mut().zip(&originals) {
        if rule.is_own() {
            rule.rest(original);
        }
    }
    let note = live.and_then(|mut note| {
        if note.split.is_some() {
            note.owners = former_owners(route, pair, Some(note.clone()));
            note.split = None;
        }
        left(note, ending.keep, &rules)
    });
    Ok(assembled(route, pair, &rules, note.as_ref()))
}

/// The restored route with its rules managed by their former manager again. To be written after the
/// restored route: in one and the same request the API server would give the rules to the writer.
pub(super) fn handed_back(route: &Value, pair: &Pair, keep: Keep) -> Option<Value> {
    let note = Note::of(route, pair).filter(|n| n.split.is_none() && !n.owners.is_empty())?;
    let rules = read(route, &pairs(route, pair));
    let route = owners::handed_back(route, &note.owners).unwrap_or_else(|| route.clone());
    let note = left(
        Note {
            owners: Vec::new(),
            ..note
        },
        keep,
        &rules,
    );
    Some(assembled(&route, pair, &rules, note.as_ref()))
}

/// The restored route as one write in the name of the rules' former manager, and that manager's
/// name. Whoever changes the rules owns them, so where their only former owner was one that updates,
/// restoring them in its name is handing them back. A manager that applies owns in another way,
/// which no such write can give; then, and when the rules are restored already, there is none.
pub(super) fn in_their_name(from: &Value, restored: &Value, pair: &Pair, keep: Keep) -> Option<(String, Value)> {
    let mut note = Note::of(restored, pair).filter(|n| n.split.is_none())?;
    let [owner] = note.owners.as_slice() else {
        return None;
    };
    if !owners::updates(owner, restored) || rules_of(from) == rules_of(restored) {
        return None;
    }
    let manager = owner.manager.clone();
    note.owners.clear();
    let rules = read(restored, &pairs(restored, pair));
    let note = left(note, keep, &rules);
    Some((manager, assembled(restored, pair, &rules, note.as_ref())))
}

/// What stays of a note that has no split any more. While another gate still splits the route, it
/// hands the rules back, not we.
fn left(mut note: Note, keep: Keep, rules: &[Rule]) -> Option<Note> {
    if rules.iter().any(Rule::names_other_canary) {
        note.owners.clear();
    }
    (!note.owners.is_empty() || (note.mark.fenced && keep == Keep::Fence)).then_some(note)
}

/// The mark that may be written over the live one: an attempt never writes over a later one, a
/// fence and a commit point stay for the attempt that set them. Only the live mark's safe weight is
/// open to everybody; and an attempt may take its own commit point back with a fence that says so.
fn admit(live: Option<&Mark>, next: &Mark) -> Result<Mark, Error> {
    let Some(live) = live.filter(|l| l.epoch >= next.epoch) else {
        return Ok(next.clone());
    };
    let later = live.epoch > next.epoch;
    let committed = live.safe == SafeTarget::Canary && next.safe == SafeTarget::Stable && (later || !next.takes_back());
    if (later || live.fenced || committed) && next.weight != live.safe.weight() {
        return Err(refused(live, next.epoch, next.weight));
    }
    let mut mark = next.clone();
    mark.epoch = live.epoch;
    mark.fenced = live.fenced || (next.fenced && !later);
    if later || committed {
        mark.safe = live.safe;
    }
    Ok(mark)
}

fn refused(live: &Mark, attempt: i64, weight: Percent) -> Error {
    let safe = live.safe.weight().get();
    Error::Fenced {
        attempt,
        weight: weight.get(),
        live: live.epoch,
        fenced: live.fenced,
        safe,
    }
}

fn pairs<'a>(route: &Value, pair: &'a Pair) -> Pairs<'a> {
    Pairs::new(pair, Note::others(route, pair).into_iter().filter_map(|n| n.split))
}

fn rules_of(route: &Value) -> &[Value] {
    let rules = route.get("spec").and_then(|s| s.get("rules")).and_then(Value::as_array);
    rules.map_or(&[], Vec::as_slice)
}

fn read(route: &Value, pairs: &Pairs) -> Vec<Rule> {
    rules_of(route).iter().map(|rule| Rule::read(rule, pairs)).collect()
}

/// What the user wrote, rule by rule. Our own note comes first; another gate's helps where it split
/// a rule before us.
fn originals(route: &Value, pair: &Pair, rules: &[Rule]) -> Vec<Original> {
    let own = Note::of(route, pair);
    let last = own.as_ref().map(|n| n.mark.weight);
    let notes = own.into_iter().chain(Note::others(route, pair));
    let known: Vec<Vec<Original>> = notes.filter_map(|n| n.split).map(|k| k.original).collect();
    rules
        .iter()
        .enumerate()
        .map(|(at, rule)| {
            let seen = rules.iter().take(at).filter(|r| r.hash() == rule.hash()).count();
            rule.original(&known, seen, last)
        })
        .collect()
}

/// Who managed the rules before us: whoever does now, else who is remembered.
fn former_owners(route: &Value, pair: &Pair, live: Option<Note>) -> Vec<Owner> {
    let now = owners::others(route);
    if !now.is_empty() {
        return now;
    }
    let notes = live.into_iter().chain(Note::others(route, pair));
    notes.map(|n| n.owners).find(|o| !o.is_empty()).unwrap_or_default()
}

/// The route with these rules and this note; the label is there while any canary of a gate is named.
fn assembled(route: &Value, pair: &Pair, rules: &[Rule], note: Option<&Note>) -> Value {
    let mut route = route.clone();
    let written = route
        .get_mut("spec")
        .and_then(|s| s.get_mut("rules"))
        .and_then(Value::as_array_mut);
    for (place, rule) in written.into_iter().flatten().zip(rules) {
        if let Some(fields) = place.as_object_mut().filter(|_| rule.is_own()) {
            fields.insert("backendRefs".to_owned(), rule.backends());
        }
    }
    let split = rules.iter().any(|r| r.names_own_canary() || r.names_other_canary());
    set(&mut route, "labels", SPLIT_LABEL, split.then(|| "in-flight".to_owned()));
    set(&mut route, "annotations", &pair.annotation(), note.map(Note::print));
    route
}

/// Sets or removes one label or annotation; an empty map is removed, as the API server does.
fn set(route: &mut Value, map: &str, key: &str, value: Option<String>) {
    let Some(metadata) = route.get_mut("metadata").and_then(Value::as_object_mut) else {
        return;
    };
    let Some(value) = value else {
        let entries = metadata.get_mut(map).and_then(Value::as_object_mut);
        if entries.is_some_and(|e| e.remove(key).is_some() && e.is_empty()) {
            metadata.remove(map);
        }
        return;
    };
    let entries = metadata.entry(map).or_insert_with(|| json!({}));
    if !entries.is_object() {
        *entries = json!({});
    }
    if let Some(entries) = entries.as_object_mut() {
        entries.insert(key.to_owned(), value.into());
    }
}
