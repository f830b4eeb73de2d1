//! YAML with the line of every field, so that what is wrong can be pointed at.

use std::collections::BTreeMap;
use std::fmt;

use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};
use serde_saphyr::Spanned;

/// One object of a file, and where its fields are.
#[derive(Debug, Clone, PartialEq)]
pub struct Placed {
    /// The object itself.
    pub object: Value,
    /// Lines, from 1, by the field's path like `spec.steps[2].weight`.
    lines: BTreeMap<String, u64>,
}

/// Why a file is no YAML.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unreadable {
    /// Where, from 1.
    pub line: u64,
    /// What is wrong.
    pub why: String,
}

/// Reads every object of a file.
///
/// # Errors
/// [`Unreadable`] when it is no YAML.
pub fn objects(text: &str) -> Result<Vec<Placed>, Unreadable> {
    let read = serde_saphyr::from_multiple::<Spanned<Node>>(text).map_err(|error| Unreadable {
        line: error.location().map_or(1, |location| location.line()),
        why: error.to_string().lines().next().unwrap_or_default().to_owned(),
    })?;
    let placed = |node: Spanned<Node>| {
        let mut placed = Placed {
            object: Value::Null,
            lines: BTreeMap::new(),
        };
        placed.object = placed.place("", node);
        placed
    };
    Ok(read
        .into_iter()
        .map(placed)
        .filter(|placed| !placed.object.is_null())
        .collect())
}

impl Placed {
    /// The line of a field, or of the nearest field around it that is written.
    #[must_use]
    pub fn line(&self, path: &str) -> u64 {
        let mut path = path;
        loop {
            if let Some(line) = self.lines.get(path) {
                return *line;
            }
            match path.rfind(['.', '[']) {
                Some(at) => path = &path[..at],
                None => return self.lines.get("").copied().unwrap_or(1),
            }
        }
    }

    /// Takes a field away, so that what else is wrong can be found.
    pub fn remove(&mut self, path: &str) -> bool {
        let Some((parent, name)) = path.rsplit_once('.') else {
            return false;
        };
        let pointer = format!("/{}", parent.replace(['.', '['], "/").replace(']', ""));
        let parent = self.object.pointer_mut(&pointer).and_then(Value::as_object_mut);
        parent.is_some_and(|fields| fields.remove(name).is_some())
    }

    fn place(&mut self, path: &str, node: Spanned<Node>) -> Value {
        self.lines
            .entry(path.to_owned())
            .or_insert_with(|| node.referenced.line());
        match node.value {
            Node::Plain(value) => value,
            Node::List(items) => {
                let items = items.into_iter().enumerate();
                Value::Array(
                    items
                        .map(|(index, item)| self.place(&format!("{path}[{index}]"), item))
                        .collect(),
                )
            }
            Node::Fields(fields) => {
                let mut object = Map::new();
                for (name, value) in fields {
                    let below = if path.is_empty() {
                        name.value.clone()
                    } else {
                        format!("{path}.{}", name.value)
                    };
                    self.lines.insert(below.clone(), name.referenced.line());
                    let value = self.place(&below, value);
                    object.insert(name.value, value);
                }
                Value::Object(object)
            }
        }
    }
}

/// YAML that remembers where it stood.
enum Node {
    Plain(Value),
    List(Vec<Spanned<Node>>),
    Fields(Vec<(Spanned<String>, Spanned<Node>)>),
}

impl<'de> Deserialize<'de> for Node {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Reader)
    }
}

struct Reader;

impl<'de> Visitor<'de> for Reader {
    type Value = Node;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("YAML")
    }
    fn visit_unit<E>(self) -> Result<Node, E> {
        Ok(Node::Plain(Value::Null))
    }
    fn visit_none<E>(self) -> Result<Node, E> {
        Ok(Node::Plain(Value::Null))
    }
    fn visit_bool<E>(self, value: bool) -> Result<Node, E> {
        Ok(Node::Plain(value.into()))
    }
    fn visit_i64<E>(self, value: i64) -> Result<Node, E> {
        Ok(Node::Plain(value.into()))
    }
    fn visit_u64<E>(self, value: u64) -> Result<Node, E> {
        Ok(Node::Plain(value.into()))
    }
    fn visit_f64<E>(self, value: f64) -> Result<Node, E> {
        Ok(Node::Plain(Number::from_f64(value).map_or(Value::Null, Value::Number)))
    }
    fn visit_str<E>(self, value: &str) -> Result<Node, E> {
        Ok(Node::Plain(value.into()))
    }
    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Node, A::Error> {
        let mut list = Vec::new();
        while let Some(item) = items.next_element()? {
            list.push(item);
        }
        Ok(Node::List(list))
    }
    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Node, A::Error> {
        let mut fields = Vec::new();
        while let Some(entry) = entries.next_entry()? {
            fields.push(entry);
        }
        Ok(Node::Fields(fields))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TWO: &str =
        "# a remark\nkind: A\nspec:\n  steps:\n  - weight: 1\n  - {weight: 5,\n     maxWindow: 1m}\n---\nkind: B\n";

    #[test]
    fn every_field_has_its_line() {
        let objects = objects(TWO).expect("two objects");
        assert_eq!(objects.len(), 2);
        let first = &objects[0];
        for (path, line) in [
            ("kind", 2),
            ("spec", 3),
            ("spec.steps", 4),
            ("spec.steps[0].weight", 5),
            ("spec.steps[1].weight", 6),
            ("spec.steps[1].maxWindow", 7),
            ("spec.steps[1].minWindow", 6),
            ("spec.analysis.metrics[0]", 3),
        ] {
            assert_eq!(first.line(path), line, "{path}");
        }
        assert_eq!(objects[1].line("kind"), 9);
        assert_eq!(first.object["spec"]["steps"][1]["maxWindow"], "1m");
    }

    #[test]
    fn a_field_can_be_taken_away() {
        let mut first = objects(TWO).expect("two objects").remove(0);
        assert!(first.remove("spec.steps[1].maxWindow"));
        assert!(!first.remove("spec.steps[1].maxWindow"));
        assert_eq!(first.object["spec"]["steps"][1], serde_json::json!({"weight": 5}));
    }

    #[test]
    fn what_is_no_yaml_is_pointed_at() {
        let unreadable = objects("kind: A\nspec: [1, 2\nother: {").expect_err("no YAML");
        assert!(unreadable.line >= 2, "{unreadable:?}");
    }
}
