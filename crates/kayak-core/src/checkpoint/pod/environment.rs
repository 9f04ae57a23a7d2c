//! Environment variables that come from objects become texts.

use serde_json::{Value, json};

use super::{Kind, Refusal, Sources, list, text};

/// Returns a container's variables, in the order in which later ones win as they do with the kubelet: what comes
/// from whole objects first.
pub(super) fn resolve(container: &Value, sources: &Sources) -> Result<Vec<Value>, Refusal> {
    let own: Vec<_> = list(container, "env").collect();
    let is_own = |name: &str| own.iter().any(|variable| variable["name"] == name);
    let mut variables: Vec<Value> = Vec::new();
    for source in list(container, "envFrom") {
        let prefix = text(source, "prefix").unwrap_or_default();
        for (kind, field) in [(Kind::ConfigMap, "configMapRef"), (Kind::Secret, "secretRef")] {
            let reference = &source[field];
            if reference.is_null() {
                continue;
            }
            for (key, value) in sources.object(kind, reference)?.into_iter().flatten() {
                let name = format!("{prefix}{key}");
                variables.retain(|variable| variable["name"] != *name);
                if !is_own(&name) {
                    variables.push(literal(kind, reference, &name, value)?);
                }
            }
        }
    }
    for variable in own {
        let name = text(variable, "name").unwrap_or_default();
        let from = &variable["valueFrom"];
        let references = [(Kind::ConfigMap, &from["configMapKeyRef"]), (Kind::Secret, &from["secretKeyRef"])];
        match references.into_iter().find(|(_, reference)| !reference.is_null()) {
            Some((kind, reference)) => {
                if let Some(value) = sources.value(kind, reference)? {
                    variables.push(literal(kind, reference, name, value)?);
                }
            }
            None if from["fileKeyRef"].is_null() => variables.push(variable.clone()),
            None => return Err(Refusal::Field("fileKeyRef")),
        }
    }
    Ok(variables)
}

/// A value from an object is taken as it is: `$(NAME)` in it is no reference, which the kubelet would see in a text.
fn literal(kind: Kind, reference: &Value, name: &str, value: &[u8]) -> Result<Value, Refusal> {
    let value = String::from_utf8(value.to_vec()).map_err(|_| Refusal::Broken {
        kind: kind.name(),
        name: text(reference, "name").unwrap_or_default().into(),
        key: text(reference, "key").unwrap_or(name).into(),
    })?;
    Ok(json!({ "name": name, "value": value.replace("$(", "$$(") }))
}
