//! What is committed of a long run: the page with its tables, the figures, and the pictures.

use std::fs;
use std::path::Path;

use crate::goals;
use crate::goals::Strictness;
use crate::pictures;
use crate::report::{self, Results};
use crate::worlds;

/// Writes them all into a directory.
pub fn write(results: &Results, into: &Path) {
    let file = |name: &str, text: String| {
        let path = into.join(name);
        fs::write(&path, text).unwrap();
        println!("{}", path.display());
    };
    file("judge-bench.md", page(results));
    file("judge-bench.json", report::json(results));
    file("judge-delay.svg", pictures::delay(results));
    file("judge-pace.svg", pictures::pace(results));
}

fn page(results: &Results) -> String {
    let checked = goals::check(&results.rows, Strictness::Proved);
    let tables = report::tables(&worlds::all(), results);
    include_str!("page.md")
        .replace("{revision}", results.revision.as_deref().unwrap_or("unknown"))
        .replace("{seed}", &results.seed.to_string())
        .replace("{releases}", &report::grouped(results.releases as f64, 0))
        .replace("{goals}", goals::table(&checked).trim_end())
        .replace("{tables}", tables.trim())
}
