//! A fixed load on the API, through the address that clients use.

use std::time::Duration;

use camino::Utf8Path;
use futures::StreamExt as _;
use futures::stream::FuturesUnordered;
use k8s_openapi::api::core::v1::ConfigMap;
use kayak_engine::api;
use kube::api::{Api, DeleteParams, ListParams, ObjectMeta, PostParams};
use serde::Serialize;
use tokio::time::{Instant, sleep_until};

use crate::error::BenchError;

/// Requests a second.
const RATE: u32 = 50;
/// How many objects are read, listed and changed.
const OBJECTS: usize = 20;
/// How they are found again.
const LABEL: &str = "kayak-bench=load";
const NAMESPACE: &str = "default";

/// How fast the API answered.
#[derive(Debug, Clone, Serialize)]
pub struct Latency {
    /// Requests a second; they begin on time, however long the ones before them take.
    pub rate: u32,
    /// How many were made.
    pub requests: usize,
    /// How many failed.
    pub failed: usize,
    /// Half of them were as fast as this.
    pub p50_ms: f64,
    /// 99 of 100 were.
    pub p99_ms: f64,
    /// All of them were.
    pub worst_ms: f64,
}

/// Loads the API for a while: as many reads, lists, creations and changes.
pub async fn run(kubeconfig: &Utf8Path, time: Duration) -> Result<Latency, BenchError> {
    let text = std::fs::read_to_string(kubeconfig).map_err(BenchError::read(kubeconfig))?;
    let client = api::client(&text).await.map_err(BenchError::Client)?;
    let maps: Api<ConfigMap> = Api::namespaced(client, NAMESPACE);
    remove(&maps).await?;
    for index in 0..OBJECTS {
        let made = maps.create(&PostParams::default(), &config_map(&format!("load-{index}"))).await;
        made.map_err(failed("create a ConfigMap"))?;
    }
    let results = pour(&maps, time).await;
    remove(&maps).await?;
    Ok(summarise(&results))
}

/// What each request took, or nothing for one that failed.
async fn pour(maps: &Api<ConfigMap>, time: Duration) -> Vec<Option<Duration>> {
    let (start, pause) = (Instant::now(), Duration::from_secs(1) / RATE);
    let mut under_way = FuturesUnordered::new();
    let mut results = Vec::new();
    for number in 0.. {
        let due = start + pause * number;
        if due >= start + time {
            break;
        }
        // Those under way are driven on until the next one is due.
        loop {
            tokio::select! {
                () = sleep_until(due) => break,
                Some(result) = under_way.next(), if !under_way.is_empty() => results.push(result),
            }
        }
        under_way.push(async move {
            let answered = request(maps, number as usize).await;
            answered.is_ok().then(|| due.elapsed())
        });
    }
    results.extend(under_way.collect::<Vec<_>>().await);
    results
}

async fn request(maps: &Api<ConfigMap>, number: usize) -> kube::Result<()> {
    let name = format!("load-{}", number / 4 % OBJECTS);
    match number % 4 {
        0 => maps.get(&name).await.map(drop),
        1 => maps.list(&ListParams::default().labels(LABEL).limit(50)).await.map(drop),
        2 => {
            let new = config_map(&format!("load-new-{number}"));
            maps.create(&PostParams::default(), &new).await.map(drop)
        }
        _ => maps.replace(&name, &PostParams::default(), &config_map(&name)).await.map(drop),
    }
}

fn config_map(name: &str) -> ConfigMap {
    let labels = LABEL.split_once('=').map(|(key, value)| (key.to_owned(), value.to_owned()));
    ConfigMap {
        metadata: ObjectMeta {
            name: Some(name.into()),
            labels: Some(labels.into_iter().collect()),
            ..ObjectMeta::default()
        },
        // Each change is one.
        data: Some([("text".to_owned(), format!("{:?}", std::time::SystemTime::now()).repeat(8))].into()),
        ..ConfigMap::default()
    }
}

async fn remove(maps: &Api<ConfigMap>) -> Result<(), BenchError> {
    let all = ListParams::default().labels(LABEL);
    let removed = maps.delete_collection(&DeleteParams::default(), &all).await;
    removed.map(drop).map_err(failed("delete ConfigMaps"))
}

fn failed(what: &'static str) -> impl FnOnce(kube::Error) -> BenchError {
    move |source| BenchError::Api { what, source: Box::new(source) }
}

fn summarise(results: &[Option<Duration>]) -> Latency {
    let mut times: Vec<f64> = results.iter().flatten().map(|time| time.as_secs_f64() * 1000.0).collect();
    times.sort_by(f64::total_cmp);
    // The nearest rank: the smallest time that so many percent do not exceed.
    let percentile = |percent: usize| {
        let rank = (times.len() * percent).div_ceil(100).max(1);
        times.get(rank - 1).copied().unwrap_or(f64::NAN)
    };
    Latency {
        rate: RATE,
        requests: results.len(),
        failed: results.len() - times.len(),
        p50_ms: percentile(50),
        p99_ms: percentile(99),
        worst_ms: percentile(100),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_by_nearest_rank_and_failures_are_counted() {
        let mut results: Vec<_> = (1..=200).map(|ms| Some(Duration::from_millis(ms))).collect();
        results.push(None);
        let latency = summarise(&results);
        assert_eq!((latency.requests, latency.failed), (201, 1));
        let close = |value: f64, wanted: f64| (value - wanted).abs() < 1e-9;
        assert!(
            close(latency.p50_ms, 100.0) && close(latency.p99_ms, 198.0) && close(latency.worst_ms, 200.0)
        );
    }
}
