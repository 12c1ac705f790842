//! The page, and what it may do.

use std::sync::LazyLock;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use ring::digest::{SHA256, digest};

use super::super::Answer;

/// The whole of it: nothing else is loaded.
const PAGE: &str = include_str!("page.html");

/// It may run its own script, use its own style, and ask its own host for events; and nothing else
/// ([CSP](https://www.w3.org/TR/CSP3/), with hashes of what stands inline).
static POLICY: LazyLock<String> = LazyLock::new(|| {
    let (script, style) = (inside("script"), inside("style"));
    format!(
        "default-src 'none'; script-src {}; style-src {}; connect-src 'self'; base-uri 'none'; \
         form-action 'none'; frame-ancestors 'none'",
        hash(script),
        hash(style)
    )
});

pub(super) fn page() -> Answer {
    Answer::html(PAGE)
        .with("content-security-policy", POLICY.as_str())
        .with("x-content-type-options", "nosniff")
        .with("x-frame-options", "DENY")
        .with("referrer-policy", "no-referrer")
}

/// What stands between the tags of an element that is there once, without attributes.
fn inside(element: &str) -> &'static str {
    let (open, close) = (format!("<{element}>"), format!("</{element}>"));
    let rest = PAGE.split_once(&open).map_or("", |(_, rest)| rest);
    rest.split_once(&close).map_or("", |(text, _)| text)
}

fn hash(text: &str) -> String {
    let hash = STANDARD.encode(digest(&SHA256, text.as_bytes()));
    format!("'sha256-{hash}'")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_of_it_is_in_one_script_and_one_style() {
        for element in ["script", "style"] {
            assert_eq!(PAGE.matches(&format!("<{element}")).count(), 1, "{element}");
            assert!(!inside(element).is_empty(), "{element}");
        }
        // Neither would run, and each is how texts of others become code.
        for word in [
            " style=",
            " onclick",
            " onload",
            "innerHTML",
            "insertAdjacent",
            "eval(",
        ] {
            assert!(!PAGE.contains(word), "{word}");
        }
        for outside in ["src=", "@import", "<link", "<base", "<iframe"] {
            assert!(!PAGE.contains(outside), "{outside}");
        }
        // Of its own picture.
        assert_eq!(PAGE.matches("url(").count(), PAGE.matches("url(#").count());
    }

    #[test]
    fn the_policy_lets_nothing_else_in() {
        let answer = page();
        let policy = answer.headers().iter();
        let policy = policy
            .clone()
            .find(|(name, _)| *name == "content-security-policy");
        let (_, policy) = policy.unwrap();
        assert!(policy.starts_with("default-src 'none';"), "{policy}");
        assert_eq!(policy.matches("'sha256-").count(), 2, "{policy}");
        assert!(!policy.contains("unsafe"), "{policy}");
    }
}
