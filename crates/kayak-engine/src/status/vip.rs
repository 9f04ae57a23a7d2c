//! Who has the address for clients outside.

use kayak_core::cluster::Cluster;
use kayak_core::node::Status;
use serde::Serialize;

use super::ask::Answers;

/// The virtual address, and who has it.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct VipReport {
    /// The address.
    pub address: String,
    /// The controller whose link has it; nothing if none has, or none that could be asked.
    pub holder: Option<String>,
    /// Why there is none, or why that is not known.
    pub because: Option<String>,
}

/// By what the controllers' agents tell, which needs no API; nothing where there is no such address.
pub(super) fn report(cluster: &Cluster, answers: &Answers) -> Option<VipReport> {
    let address = cluster.config.api.vip?.to_string();
    let told: Vec<_> = cluster.controllers().map(|node| (&node.name, answers.agent(&node.name))).collect();
    let has_it = |told: &Result<&Status, String>| told.as_ref().is_ok_and(|status| status.vip.is_some());
    let holder = told.iter().find(|(_, told)| has_it(told)).map(|(node, _)| (*node).clone());
    let silent = told.iter().find_map(|(node, told)| Some(format!("{node}: {}", told.as_ref().err()?)));
    let because = match &holder {
        Some(_) => None,
        None => Some(
            silent.unwrap_or_else(|| "no controller has it: one with a ready API server takes it".into()),
        ),
    };
    Some(VipReport { address, holder, because })
}

#[cfg(test)]
mod tests {
    use kayak_core::plan::Fact;

    use super::super::ask::tests::answers;
    use super::super::tests::cluster;
    use super::*;

    #[test]
    fn the_holder_is_told_by_its_agent() {
        let mut cluster = cluster(2, 0);
        let holds = Status { vip: Some([10, 254, 0, 250].into()), ..Status::default() };
        let mut answers = answers(&[("controller-0", Status::default()), ("controller-1", holds)]);
        assert_eq!(report(&cluster, &answers), None, "there is no such address");
        cluster.config.api.vip = Some([10, 254, 0, 250].into());
        let told = report(&cluster, &answers).unwrap();
        assert_eq!((told.holder.as_deref(), told.because), (Some("controller-1"), None));
        answers.nodes.get_mut("controller-1").unwrap().look = Fact::Unknown("it said nothing".into());
        let told = report(&cluster, &answers).unwrap();
        assert_eq!((told.holder, told.because.as_deref()), (None, Some("controller-1: it said nothing")));
    }
}
