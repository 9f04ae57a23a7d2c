//! Changes the numbers of nodes in the text of a `cluster.yaml`, and nothing else of it.

/// Numbers of nodes to write; what is `None` stays as it is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// `controllers`.
    pub controllers: Option<u32>,
    /// `workers`.
    pub workers: Option<u32>,
}

impl Counts {
    /// Returns the text with the numbers written into it, comments and all else left alone.
    pub fn write_into(self, text: &str) -> String {
        let wished = [("controllers", self.controllers), ("workers", self.workers)];
        let set = wished.into_iter().filter_map(|(field, count)| Some((field, count?)));
        set.fold(text.to_owned(), |text, (field, count)| set_field(&text, field, count))
    }
}

/// Sets a field of the outermost mapping; appends it where it is not there.
fn set_field(text: &str, field: &str, count: u32) -> String {
    let is_it = |line: &&str| line.strip_prefix(field).is_some_and(|rest| rest.trim_start().starts_with(':'));
    let Some(line) = text.lines().find(is_it) else {
        let separated = if text.is_empty() || text.ends_with('\n') { "" } else { "\n" };
        return format!("{text}{separated}{field}: {count}\n");
    };
    let comment = line.find(" #").map_or("", |at| &line[at..]);
    let lines =
        text.lines().map(|l| if is_it(&l) { format!("{field}: {count}{comment}") } else { l.to_owned() });
    lines.map(|line| line + "\n").collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_numbers_change() {
        let counts = Counts { controllers: Some(3), workers: Some(2) };
        assert_eq!(counts.write_into(""), "controllers: 3\nworkers: 2\n");
        let text = "# mine\nname: home\ncontrollers: 1 # for now\nnodes:\n- name: worker-0\n  workers: no";
        let written = counts.write_into(text);
        assert_eq!(
            written,
            "# mine\nname: home\ncontrollers: 3 # for now\nnodes:\n- name: worker-0\n  workers: no\nworkers: 2\n"
        );
        assert_eq!(Counts::default().write_into(text), text);
    }
}
