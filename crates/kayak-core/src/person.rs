//! People beside the administrator: what they may be called, and what they are given.

use serde_json::json;

use crate::access::object;
use crate::cluster::Cluster;
use crate::object::Object;
use crate::pki::{Authority, CertificateSpec, LEAF_DAYS, Usage, certificates};

/// X.509's limit for a common name and for an organization.
const LONGEST: usize = 64;

/// Somebody who is given a certificate of their own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Person {
    /// The user's name for Kubernetes.
    pub name: String,
    /// The groups that the certificate says they are in.
    pub groups: Vec<String>,
    /// What they may do, beyond what their groups may.
    pub role: Option<Role>,
    /// Where they may do it, and what they mean where they name none; everywhere, if absent.
    pub namespace: Option<String>,
}

/// The roles that every cluster has for people.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// See everything but Secrets.
    View,
    /// Change workloads too.
    Edit,
    /// Give others rights in the namespace too.
    Admin,
    /// Do everything.
    ClusterAdmin,
}

impl Role {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::View, Self::Edit, Self::Admin, Self::ClusterAdmin];

    /// The ClusterRole's name.
    pub fn name(self) -> &'static str {
        match self {
            Self::View => "view",
            Self::Edit => "edit",
            Self::Admin => "admin",
            Self::ClusterAdmin => "cluster-admin",
        }
    }
}

impl Person {
    /// Says why they may not be called so, or not be in such a group.
    pub fn problems(&self, cluster: &Cluster) -> Vec<String> {
        let own = certificates(cluster);
        let mut own = own.iter().filter(|own| own.authority == Authority::Kubernetes);
        let taken = || {
            let taken = own.any(|own| own.common_name == self.name);
            taken.then(|| format!("`{}` is what a part of the cluster is called", self.name))
        };
        let mut problems: Vec<_> = name_problem("name", &self.name).or_else(taken).into_iter().collect();
        problems.extend(self.groups.iter().filter_map(|group| name_problem("group", group)));
        if let Some(namespace) = self.namespace.as_deref().filter(|namespace| !is_label(namespace)) {
            problems.push(format!("`{namespace}` is no name of a namespace"));
        }
        problems
    }

    /// What their certificate says.
    pub fn certificate(&self) -> CertificateSpec {
        CertificateSpec {
            id: self.name.clone(),
            authority: Authority::Kubernetes,
            common_name: self.name.clone(),
            organizations: self.groups.clone(),
            usage: Usage::Client,
            names: Vec::new(),
            addresses: Vec::new(),
            days: LEAF_DAYS,
        }
    }

    /// The object that gives them their role. Its name begins so that it can be none of kayak's own.
    pub fn binding(&self) -> Option<Object> {
        let role = self.role?.name();
        let kind = if self.namespace.is_some() { "RoleBinding" } else { "ClusterRoleBinding" };
        let mut metadata = json!({ "name": format!("kayak:user:{}", self.name) });
        if let Some(namespace) = &self.namespace {
            metadata["namespace"] = namespace.as_str().into();
        }
        Some(object(json!({
            "apiVersion": "rbac.authorization.k8s.io/v1",
            "kind": kind,
            "metadata": metadata,
            "roleRef": { "apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": role },
            "subjects": [{ "apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": self.name }],
        })))
    }
}

/// A certificate cannot be called back, so none is issued that is above the cluster's rules: who is
/// in `system:masters` may do everything whatever roles say, and the other names are those of the
/// cluster's own parts. `cluster-admin` gives as much, and can be taken away again.
fn name_problem(what: &str, name: &str) -> Option<String> {
    let reserved = ["system:", "kayak:"].into_iter().find(|prefix| name.starts_with(prefix));
    if let Some(prefix) = reserved {
        return Some(format!("the {what} `{name}` begins with `{prefix}`: such names are the cluster's own"));
    }
    // The binding is named after the person, and these may not be in a path.
    let bad = |c: char| c.is_control() || matches!(c, '/' | '%');
    let fits = (1..=LONGEST).contains(&name.chars().count()) && !name.contains(bad) && name.trim() == name;
    (!fits).then(|| {
        format!(
            "`{}` is no {what}: 1 to {LONGEST} characters, `/` and `%` not among them",
            name.escape_debug()
        )
    })
}

/// What a namespace may be called (RFC 1123).
fn is_label(name: &str) -> bool {
    let inner = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    (1..=63).contains(&name.len())
        && name.chars().all(inner)
        && !name.starts_with('-')
        && !name.ends_with('-')
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::tests::resolve;

    fn cluster() -> Cluster {
        resolve("").unwrap()
    }

    fn person(name: &str, groups: &[&str]) -> Person {
        let groups = groups.iter().map(|&group| group.into()).collect();
        Person { name: name.into(), groups, role: None, namespace: None }
    }

    #[test]
    fn nobody_is_called_as_a_part_of_the_cluster() {
        let long = "x".repeat(65);
        for name in [
            "",
            " x",
            "x/y",
            "x%",
            "x\n",
            &long,
            "system:admin",
            "kayak:agent:controller-0",
            "kubernetes-admin",
            "kube-apiserver-kubelet-client",
        ] {
            assert_eq!(person(name, &[]).problems(&cluster()).len(), 1, "{name}");
        }
        for group in ["system:masters", "system:nodes", "kayak:agents", ""] {
            assert_eq!(person("anna", &["developers", group]).problems(&cluster()).len(), 1, "{group}");
        }
        assert!(person("anna@example.org", &["developers", "on call"]).problems(&cluster()).is_empty());
        let lost = Person { namespace: Some("A/b".into()), ..person("anna", &[]) };
        assert_eq!(lost.problems(&cluster()), ["`A/b` is no name of a namespace"]);
    }

    #[test]
    fn a_role_is_given_in_a_namespace_or_everywhere() {
        let anna = Person { role: Some(Role::Edit), ..person("anna", &[]) };
        let everywhere = anna.binding().unwrap();
        assert_eq!(everywhere.id().to_string(), "clusterrolebinding/kayak:user:anna");
        assert_eq!(everywhere.value()["roleRef"]["name"], "edit");
        let there = Person { namespace: Some("web".into()), ..anna }.binding().unwrap();
        assert_eq!(there.id().to_string(), "rolebinding/web/kayak:user:anna");
        assert!(person("anna", &["developers"]).binding().is_none());
    }
}
