//! The token with which requests may read the members on the gossip port, which is public.

use std::fmt;
use std::path::Path;

use anyhow::Context as _;
use axum::extract::{Request, State};
use axum::http::{StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};
use subtle::ConstantTimeEq as _;

use crate::private_file;

/// The fewest characters of a token: as many as 96 random bits have in base64.
const MIN_LEN: usize = 16;
/// The most characters of a token.
const MAX_LEN: usize = 512;

/// A bearer token (RFC 6750).
#[derive(Clone)]
pub(crate) struct Token(String);

impl Token {
    /// Reads a token from a file of one line.
    ///
    /// # Errors
    ///
    /// Fails if the file cannot be read, or is not a token that a request can have.
    pub(crate) fn read(path: &Path) -> anyhow::Result<Self> {
        if private_file::readable_by_others(path) {
            tracing::warn!(
                file = ?path,
                "others than its owner can read the token of --http-token: chmod 600"
            );
        }
        let text = std::fs::read_to_string(path)
            .with_context(|| format!("cannot read {} (--http-token)", path.display()))?;
        Self::parse(&text).with_context(|| format!("{} (--http-token)", path.display()))
    }

    fn parse(text: &str) -> anyhow::Result<Self> {
        let token = text.trim();
        // RFC 6750, section 2.1.
        let is_allowed = |c: char| c.is_ascii_alphanumeric() || "-._~+/=".contains(c);
        anyhow::ensure!(
            (MIN_LEN..=MAX_LEN).contains(&token.len()) && token.chars().all(is_allowed),
            "must have one line of {MIN_LEN} to {MAX_LEN} letters, digits and - . _ ~ + / = (openssl rand -base64 24 makes one)"
        );
        Ok(Self(token.to_owned()))
    }

    /// Returns whether the request has this token.
    fn is_in(&self, request: &Request) -> bool {
        let mut fields = request.headers().get_all(header::AUTHORIZATION).iter();
        let (Some(field), None) = (fields.next(), fields.next()) else {
            return false;
        };
        let field = field.to_str().unwrap_or_default();
        let Some((scheme, token)) = field.split_once(' ') else {
            return false;
        };
        scheme.eq_ignore_ascii_case("bearer")
            && bool::from(token.trim().as_bytes().ct_eq(self.0.as_bytes()))
    }
}

/// Passes on requests with the token, and refuses others.
pub(super) async fn only_with(
    State(token): State<Option<Token>>,
    request: Request,
    next: Next,
) -> Response {
    if token.as_ref().is_some_and(|token| token.is_in(&request)) {
        return next.run(request).await;
    }
    let text = match token {
        Some(_) => "This needs the token of the node: Authorization: Bearer TOKEN\n",
        None => {
            "Nobody can read this here: start the node with --http-token FILE, or --http ADDR\n"
        }
    };
    let asks = [(header::WWW_AUTHENTICATE, "Bearer")];
    (StatusCode::UNAUTHORIZED, asks, text).into_response()
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(..)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_has_one_line_of_characters_that_a_request_can_have() {
        for right in ["0123456789abcdef", "  abcDEF-._~+/=0123456789\n"] {
            assert!(Token::parse(right).is_ok(), "{right}");
        }
        let long = "a".repeat(MAX_LEN + 1);
        for wrong in [
            "",
            "0123456789abcde",
            "0123456789 abcdef",
            "0123456789abcdef\n0123456789abcdef",
            "0123456789abcdefé",
            &long,
        ] {
            assert!(Token::parse(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_request_has_the_token_once_and_whole() {
        let token = Token::parse("0123456789abcdef").unwrap();
        let has = |fields: &[&str]| {
            let mut request = axum::http::Request::get("/status");
            for field in fields {
                request = request.header("Authorization", *field);
            }
            token.is_in(&request.body(axum::body::Body::empty()).unwrap())
        };
        assert!(has(&["Bearer 0123456789abcdef"]));
        assert!(has(&["bearer 0123456789abcdef"]));
        for wrong in [
            &[][..],
            &["Bearer 0123456789abcdef", "Bearer 0123456789abcdef"],
            &["Bearer 0123456789abcde"],
            &["Bearer 0123456789abcdef0"],
            &["Bearer "],
            &["Bearer"],
            &["0123456789abcdef"],
            &["Basic 0123456789abcdef"],
        ] {
            assert!(!has(wrong), "{wrong:?}");
        }
    }
}
