//! Errors as one line of text.

use std::error::Error;

/// Returns an error's message followed by those of its causes.
pub fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let message = error.to_string();
        // Some libraries repeat the cause in the message.
        if !text.contains(&message) {
            text = format!("{text}: {message}");
        }
        cause = error.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("{text}")]
    struct Link {
        text: &'static str,
        #[source]
        source: Option<Box<Link>>,
    }

    #[test]
    fn every_cause_is_told_once() {
        let link = |text, source: Option<Link>| Link { text, source: source.map(Box::new) };
        let refused = || link("connection refused", None);
        let asked = link("failed to ask", Some(link("failed to connect", Some(refused()))));
        assert_eq!(chain(&asked), "failed to ask: failed to connect: connection refused");
        let repeated = link("no answer (connection refused)", Some(refused()));
        assert_eq!(chain(&repeated), "no answer (connection refused)");
    }
}
