//! Says what is wrong in the owner's words: where it is, and what to write instead.

use super::check::Problem;
use super::document::{Node, Value, place};
use super::finding::Finding;
use super::path::{Path, Step};
use super::read::{Kind, Misfit};
use super::schema::{Part, schema};

/// Explains something that does not fit.
pub(super) fn misfit(misfit: &Misfit, document: &Node, text: &str) -> Finding {
    let schema = schema();
    let (path, node) = (&misfit.path, document.get(&misfit.path.0));
    let at = match misfit.kind {
        Kind::UnknownField(_) => document.find_name(&path.0),
        Kind::UnknownWord(_) | Kind::Missing(_) | Kind::Other(_) => document.find(&path.0),
    };
    let finding = match &misfit.kind {
        Kind::UnknownField(known) => unknown_field(path, known, Part::root(&schema)),
        Kind::UnknownWord(known) => {
            let word = node.map(|node| node.value.to_string()).unwrap_or_default();
            Finding::new(path.to_string(), format!("`{path}` cannot be `{word}`")).hint(suggest(&word, known))
        }
        Kind::Missing(field) => {
            let message = format!("{} lacks `{field}`", whole(path));
            let inner = Part::root(&schema).find(&path.field(field));
            Finding::new(path.to_string(), message).hint(inner.map_or("", Part::description))
        }
        Kind::Other(reason) => {
            let finding = Finding::new(path.to_string(), format!("{} cannot be read: {reason}", whole(path)));
            finding.hint(how_to_write(path, node, reason, Part::root(&schema)))
        }
    };
    Finding { place: at.and_then(|at| place(text, at)), ..finding }
}

/// Explains something that cannot be, with its place if the configuration was read from a text.
pub(super) fn problem(problem: Problem, source: Option<(&Node, &str)>) -> Finding {
    let located = source.and_then(|(document, text)| {
        // Else the innermost setting around it that is written down.
        let outer = |path: &Path| (1..path.0.len()).rev().find_map(|depth| document.find(&path.0[..depth]));
        let exact = problem.paths.iter().find_map(|path| {
            if problem.is_name { document.find_name(&path.0) } else { document.find(&path.0) }
        });
        place(text, exact.or_else(|| problem.paths.iter().find_map(outer))?)
    });
    let path = problem.paths.first().map(ToString::to_string).unwrap_or_default();
    Finding { place: located, ..Finding::new(path, problem.message).hint(problem.hint) }
}

fn whole(path: &Path) -> String {
    if path.0.is_empty() { "the configuration".into() } else { format!("`{path}`") }
}

fn unknown_field(path: &Path, known: &[&str], schema: Part<'_>) -> Finding {
    let Some((Step::Field(name), outer)) = path.0.split_last() else {
        return Finding::new(path.to_string(), "there is no such setting");
    };
    let message = if outer.is_empty() {
        format!("there is no setting `{name}`")
    } else {
        format!("`{}` has no setting `{name}`", Path(outer.to_vec()))
    };
    let hint = match (nearest(name, known), elsewhere(name, schema, &Path::default())) {
        (Some(near), _) => format!("did you mean `{near}`?"),
        (None, Some(path)) => format!("did you mean `{path}`?"),
        (None, None) => suggest(name, known),
    };
    Finding::new(path.to_string(), message).hint(hint)
}

/// Finds a setting of that name anywhere else.
fn elsewhere(name: &str, part: Part<'_>, path: &Path) -> Option<Path> {
    let fields = part.fields();
    let here = fields.iter().find(|(field, _)| *field == name).map(|(field, _)| path.field(field));
    here.or_else(|| fields.iter().find_map(|(field, inner)| elsewhere(name, *inner, &path.field(field))))
}

fn suggest(word: &str, known: &[&str]) -> String {
    match nearest(word, known) {
        Some(near) => format!("did you mean `{near}`?"),
        None => format!("one of {}", known.iter().map(|k| format!("`{k}`")).collect::<Vec<_>>().join(", ")),
    }
}

/// Finds the word that was probably meant: one in three letters may be wrong, and its case.
fn nearest<'a>(word: &str, known: &[&'a str]) -> Option<&'a str> {
    let plain = |word: &str| word.to_lowercase().replace(['-', '_'], "");
    let distance = |other: &&str| strsim::osa_distance(&plain(word), &plain(other));
    let near = known.iter().copied().min_by_key(distance)?;
    let begun = known.iter().copied().find(|other| word.len() > 3 && plain(other).starts_with(&plain(word)));
    (distance(&near) <= word.chars().count().div_ceil(3)).then_some(near).or(begun)
}

fn how_to_write(path: &Path, node: Option<&Node>, reason: &str, schema: Part<'_>) -> String {
    let plain = node.is_some_and(|node| matches!(node.value, Value::Bool(_) | Value::Number(_)));
    if plain && reason.ends_with("expected a string") {
        return "put it in quotes".into();
    }
    // An item of a list is described by its list.
    let fields = path.0.iter().rposition(|step| matches!(step, Step::Field(_))).map_or(0, |last| last + 1);
    let Some(part) = schema.find(&Path(path.0[..fields].to_vec())) else { return String::new() };
    match (path.0.last(), part.default()) {
        (Some(Step::Field(name)), Some(serde_json::Value::String(default))) => {
            format!("write it like `{name}: {default}`")
        }
        (Some(Step::Field(name)), Some(serde_json::Value::Bool(default))) => {
            format!("write it like `{name}: {default}`")
        }
        _ => part.description().into(),
    }
}
