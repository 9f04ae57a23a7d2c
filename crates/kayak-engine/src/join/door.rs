//! What the answers of an API tell beside what was asked.

use kube::client::Body;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc2822;

use super::{JoinError, ask};

/// Asks something small, and returns what time it is there. The first question also shows whether the token is
/// known.
pub(super) async fn time(client: &kube::Client) -> Result<OffsetDateTime, JoinError> {
    let request = http::Request::get("/version").body(Body::empty());
    let request = request.map_err(|source| JoinError::NoTime(source.to_string()))?;
    let answer = client.send(request).await.map_err(ask("ask for the cluster's time"))?;
    if answer.status() == http::StatusCode::UNAUTHORIZED {
        return Err(JoinError::Token);
    }
    let date = answer.headers().get(http::header::DATE).and_then(|date| date.to_str().ok());
    let date = date.ok_or_else(|| JoinError::NoTime("its answer has no date".into()))?;
    OffsetDateTime::parse(date, &Rfc2822).map_err(|error| JoinError::NoTime(format!("`{date}`: {error}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answers_date_is_read() {
        let date = OffsetDateTime::parse("Sat, 21 Nov 2026 18:03:08 GMT", &Rfc2822).unwrap();
        assert_eq!(date.unix_timestamp(), 1_795_284_188);
    }
}
