//! What Kubernetes takes for labels and taints.

/// Says why a name and value are no label, or no taint.
pub fn label(name: &str, value: &str) -> Result<(), String> {
    qualified_name(name).and_then(|()| label_value(value))
}

/// The rule of Kubernetes for names of labels and taints.
fn qualified_name(name: &str) -> Result<(), String> {
    let (prefix, own) = name.split_once('/').map_or((None, name), |(prefix, own)| (Some(prefix), own));
    let prefix_fits = prefix.is_none_or(|prefix| {
        let fits = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '-' | '.');
        (1..=253).contains(&prefix.len()) && prefix.chars().all(fits)
    });
    if prefix_fits && !own.is_empty() && is_label_text(own) {
        Ok(())
    } else {
        Err("a name is up to 63 letters, digits, `-`, `_`, `.`, behind a domain and `/` if you like".into())
    }
}

fn label_value(value: &str) -> Result<(), String> {
    if is_label_text(value) {
        Ok(())
    } else {
        Err("a value is up to 63 letters, digits, `-`, `_`, `.`, a letter or digit first and last".into())
    }
}

fn is_label_text(text: &str) -> bool {
    let inner = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    let outer = |c: char| c.is_ascii_alphanumeric();
    text.len() <= 63
        && text.chars().all(inner)
        && text.chars().next().is_none_or(outer)
        && text.chars().last().is_none_or(outer)
}
