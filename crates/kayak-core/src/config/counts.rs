//! Changes the numbers of nodes in the text of a `cluster.yaml`, and nothing else of it.

use std::collections::BTreeSet;

use crate::cluster::Role;

/// Numbers of nodes to write; what is `None` stays as it is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// `controllers`.
    pub controllers: Option<u32>,
    /// `workers`.
    pub workers: Option<u32>,
}

impl Counts {
    /// Returns the numbers that leave these nodes out: names follow from the numbers, so that only the last ones of
    /// a role can go. What no number names is not counted.
    pub fn without(controllers: u32, workers: u32, names: &[String]) -> Result<Self, String> {
        let left = |role: Role, count: u32| {
            let numbers: BTreeSet<_> = (0..count).filter(|n| names.contains(&role.node_name(*n))).collect();
            let kept = (0..count).filter(|n| !numbers.contains(n)).collect::<Vec<_>>();
            match (numbers.first(), kept.last()) {
                (None, _) => Ok(None),
                (Some(_), None) if role == Role::Controller => {
                    Err("a cluster needs a controller: `kayak down` removes all of it".to_owned())
                }
                (Some(first), Some(last)) if first < last => Err(format!(
                    "`{}` cannot go while `{}` stays: nodes are named by number, and the last ones go first",
                    role.node_name(*first),
                    role.node_name(*last)
                )),
                (Some(first), _) => Ok(Some(*first)),
            }
        };
        Ok(Self { controllers: left(Role::Controller, controllers)?, workers: left(Role::Worker, workers)? })
    }

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
    fn only_the_last_nodes_of_a_role_go() {
        let without = |names: &[&str]| {
            let names: Vec<_> = names.iter().map(|&name| name.to_owned()).collect();
            Counts::without(3, 2, &names)
        };
        let counts = |controllers, workers| Ok(Counts { controllers, workers });
        assert_eq!(without(&["worker-1"]), counts(None, Some(1)));
        assert_eq!(without(&["worker-0", "worker-1", "controller-2"]), counts(Some(2), Some(0)));
        assert_eq!(without(&["worker-7"]), counts(None, None), "it is not wished anyway");
        assert!(without(&["worker-0"]).unwrap_err().contains("`worker-1` stays"));
        assert!(without(&["controller-1"]).is_err());
        assert!(
            without(&["controller-0", "controller-1", "controller-2"]).unwrap_err().contains("kayak down")
        );
    }

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
