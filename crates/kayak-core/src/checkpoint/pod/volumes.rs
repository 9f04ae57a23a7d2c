//! Volumes that come from objects become directories of the node.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::super::FILES;
use super::{File, Kind, Refusal, Sources, list, text};

/// The permissions that Kubernetes gives to files where a pod says nothing.
const DEFAULT_MODE: u32 = 0o644;

/// One volume of a checkpoint.
pub(super) struct Volume {
    pub(super) name: String,
    /// Whether it is made of files that are kept.
    pub(super) is_files: bool,
    pub(super) value: Value,
}

type Files = BTreeMap<String, File>;

/// Returns a checkpoint's volumes, those made of files below `directory`, and these files.
pub(super) fn resolve(
    volumes: &[&Value],
    directory: &str,
    sources: &Sources,
) -> Result<(Vec<Volume>, Files), Refusal> {
    let mut files = Files::new();
    let mut resolved = Vec::new();
    for volume in volumes {
        let name = text(volume, "name").unwrap_or_default().to_owned();
        let before = files.len();
        let is_files = fill(volume, &name, sources, &mut files)?;
        let value = if is_files {
            let path = format!("{directory}/{FILES}/{name}");
            if files.len() == before {
                // Nothing of what it may hold is there: an empty directory is what the pod had.
                json!({ "name": name, "emptyDir": {} })
            } else {
                json!({ "name": name, "hostPath": { "path": path, "type": "Directory" } })
            }
        } else {
            (*volume).clone()
        };
        resolved.push(Volume { name, is_files, value });
    }
    Ok((resolved, files))
}

/// Puts what a volume holds among the files; says whether it is such a volume.
fn fill(volume: &Value, name: &str, sources: &Sources, files: &mut Files) -> Result<bool, Refusal> {
    let refused = |kind: &str| Refusal::Volume { volume: name.to_owned(), kind: kind.to_owned() };
    let source = volume.as_object().into_iter().flatten().find(|(field, _)| *field != "name");
    let Some((kind, source)) = source else { return Ok(false) };
    match kind.as_str() {
        "secret" => {
            add(Kind::Secret, source, mode(source, DEFAULT_MODE), name, sources, files).map(|()| true)
        }
        "configMap" => {
            add(Kind::ConfigMap, source, mode(source, DEFAULT_MODE), name, sources, files).map(|()| true)
        }
        // The pod's own fields are the kubelet's to fill in, and it does so without an API.
        "projected" if list(source, "sources").all(|one| !one["downwardAPI"].is_null()) => Ok(false),
        "projected" => {
            let default = mode(source, DEFAULT_MODE);
            for one in list(source, "sources") {
                let kind = one.as_object().and_then(|one| one.keys().next()).map_or("", String::as_str);
                match kind {
                    "secret" => add(Kind::Secret, &one[kind], default, name, sources, files)?,
                    "configMap" => add(Kind::ConfigMap, &one[kind], default, name, sources, files)?,
                    other => return Err(refused(&format!("projected {other}"))),
                }
            }
            Ok(true)
        }
        "downwardAPI" | "emptyDir" | "hostPath" | "image" | "nfs" | "iscsi" | "fc" => Ok(false),
        // Claims, CSI, and the many that name a Secret or are made by the API's controllers.
        other => Err(refused(other)),
    }
}

fn add(
    kind: Kind,
    source: &Value,
    default: u32,
    volume: &str,
    sources: &Sources,
    files: &mut Files,
) -> Result<(), Refusal> {
    let Some(data) = sources.object(kind, source)? else { return Ok(()) };
    let object =
        || text(source, "secretName").or_else(|| text(source, "name")).unwrap_or_default().to_owned();
    let mut put = |path: &str, content: &Vec<u8>, mode| {
        let leads_out = path.is_empty() || path.split('/').any(|part| matches!(part, "" | "." | ".."));
        if leads_out {
            return Err(Refusal::Path { volume: volume.into(), path: path.into() });
        }
        files.insert(format!("{FILES}/{volume}/{path}"), File { content: content.clone(), mode });
        Ok(())
    };
    let items: Vec<_> = list(source, "items").collect();
    if items.is_empty() {
        return data.iter().try_for_each(|(key, content)| put(key, content, default));
    }
    for item in items {
        let key = text(item, "key").unwrap_or_default();
        match data.get(key) {
            Some(content) => {
                let mode = item["mode"].as_u64().and_then(|mode| u32::try_from(mode).ok()).unwrap_or(default);
                put(text(item, "path").unwrap_or_default(), content, mode)?;
            }
            None if source["optional"] == true => {}
            None => return Err(Refusal::LacksKey { kind: kind.name(), name: object(), key: key.into() }),
        }
    }
    Ok(())
}

fn mode(source: &Value, default: u32) -> u32 {
    source["defaultMode"].as_u64().and_then(|mode| u32::try_from(mode).ok()).unwrap_or(default)
}
