//! The token with which requests may read the members on the gossip port, which is public.
//!
//! Its file is looked at every second, and read at once on SIGHUP if that ends no node, by blocking tasks, since a file system
//! may never answer. Invariant: a file that has no token changes nothing, and is warned of once.

use std::fmt;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use anyhow::Context as _;
use axum::extract::{Request, State};
use axum::http::{StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};
use gossip_transport::rt::{self, Task};
use subtle::ConstantTimeEq as _;

use crate::private_file;
use crate::shutdown::HangUps;
use crate::watched_file::{LOOK_EVERY, Look, SETTLE, WatchedFile, watch};

/// The fewest characters of a token: as many as 96 random bits have in base64.
const MIN_LEN: usize = 16;
/// The most characters of a token.
const MAX_LEN: usize = 512;

/// A bearer token (RFC 6750), which changes with its file. Clones share both.
#[derive(Clone)]
pub(crate) struct Token {
    text: Arc<Mutex<Text>>,
    /// `None` if the file can be read only once.
    file: Option<Arc<Mutex<WatchedFile>>>,
}

/// The text of a token.
struct Text(String);

/// Whether the file has stayed the same for a while.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Settled {
    Yes,
    No,
}

impl Token {
    /// Reads a token from a file of one line.
    ///
    /// # Errors
    ///
    /// Fails if the file cannot be read, or is not a token that a request can have.
    pub(crate) fn read(path: &Path) -> anyhow::Result<Self> {
        let text = private_file::read_private(path)
            .with_context(|| format!("cannot read {} (--http-token)", path.display()))?;
        let file = watch(path, &text).map(|file| Arc::new(Mutex::new(file)));
        let text = Text::parse(&text).with_context(|| format!("{} (--http-token)", path.display()));
        let text = Arc::new(Mutex::new(text?));
        Ok(Self { text, file })
    }

    /// Reads the file again when it has changed, and at each of `hang_ups`, until the returned task is dropped.
    pub(crate) fn watch(&self, mut hang_ups: HangUps) -> Option<Task> {
        let (text, file) = (Arc::clone(&self.text), Arc::clone(self.file.as_ref()?));
        Some(Task::spawn(async move {
            let mut wait = LOOK_EVERY;
            loop {
                let is_asked = tokio::select! {
                    () = rt::sleep(wait) => false,
                    () = hang_ups.next() => true,
                };
                let (text, file) = (Arc::clone(&text), Arc::clone(&file));
                let look = move || look(&text, &mut lock(&file), is_asked);
                wait = match tokio::task::spawn_blocking(look).await {
                    Ok(Settled::No) => SETTLE,
                    Ok(Settled::Yes) | Err(_) => LOOK_EVERY,
                };
            }
        }))
    }

    fn is_in(&self, request: &Request) -> bool {
        lock(&self.text).is_in(request)
    }
}

/// Looks at the file, and takes a new token from it.
fn look(text: &Mutex<Text>, file: &mut WatchedFile, is_asked: bool) -> Settled {
    let seen = match is_asked {
        true => file.look_now(),
        false => file.look(),
    };
    let new = match seen {
        Look::Same => return Settled::Yes,
        Look::Unsettled => return Settled::No,
        Look::New(new) => new,
    };
    let path = file.path();
    let parsed = new.and_then(|new| Text::parse(&new).map_err(|error| format!(" {error}")));
    match parsed {
        Ok(new) => {
            if private_file::readable_by_others(path) {
                tracing::warn!(
                    ?path,
                    "other users of this machine can read this file; chmod 600 it"
                );
            }
            *lock(text) = new;
            tracing::info!("read the token of --http-token again");
        }
        Err(reason) => {
            let reason = format!("{}{reason}", path.display());
            tracing::warn!(reason, "the token of --http-token stays as it is");
        }
    }
    Settled::Yes
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Text {
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
            assert!(Text::parse(right).is_ok(), "{right}");
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
            assert!(Text::parse(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_file_that_has_changed_has_a_new_token_and_one_that_is_broken_changes_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("token");
        let write = |text: &str| std::fs::write(&path, text).unwrap();
        write("0123456789abcdef\n");
        let token = Token::read(&path).unwrap();
        let is = |wanted: &str| lock(&token.text).0 == wanted;
        let mut file = lock(token.file.as_ref().unwrap());
        let mut look = |is_asked| look(&token.text, &mut file, is_asked);
        // At the first look it is not known for how long it has stayed the same.
        assert_eq!([look(false), look(false)], [Settled::No, Settled::Yes]);
        write("fedcba9876543210");
        assert_eq!(look(false), Settled::No);
        assert!(is("0123456789abcdef"));
        assert_eq!(look(false), Settled::Yes);
        assert!(is("fedcba9876543210"));
        for broken in ["", "too short", "0123456789abcdef\n0123456789abcdef"] {
            write(broken);
            assert_eq!([look(false), look(false)], [Settled::No, Settled::Yes]);
            assert!(is("fedcba9876543210"), "{broken}");
        }
        write("0123456789abcdef");
        assert_eq!(look(true), Settled::Yes);
        assert!(
            is("0123456789abcdef"),
            "it is read at once if it is asked for"
        );
        std::fs::remove_file(&path).unwrap();
        assert_eq!(look(true), Settled::Yes);
        assert!(is("0123456789abcdef"));
    }

    #[test]
    fn a_request_has_the_token_once_and_whole() {
        let token = Text::parse("0123456789abcdef").unwrap();
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
