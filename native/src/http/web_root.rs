//! The files of `--web-root`.
//!
//! Serving them is tower-http's. Invariant: only regular files are opened. Opening a pipe would hold a thread of the
//! runtime until somebody writes to it, and a device may have no end.

use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

use axum::Router;
use axum::extract::{Request, State};
use axum::http::{Method, StatusCode};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse as _, Response};
use percent_encoding::percent_decode_str;
use tower_http::services::ServeDir;

/// The longest path of a request, in bytes, which no file system exceeds.
const MAX_PATH_LEN: usize = 4096;
/// The file that stands for its directory.
const INDEX: &str = "index.html";

/// Returns a router that serves the files in `root`.
pub(super) fn serve(root: &Path) -> Router {
    let checked = from_fn_with_state(Arc::<Path>::from(root), only_regular_files);
    Router::new()
        .fallback_service(ServeDir::new(root))
        .layer(checked)
}

async fn only_regular_files(
    State(root): State<Arc<Path>>,
    request: Request,
    next: Next,
) -> Response {
    let path = request.uri().path();
    if path.len() > MAX_PATH_LEN {
        return StatusCode::URI_TOO_LONG.into_response();
    }
    // Nothing is opened for other methods, which are refused.
    let is_read = [Method::GET, Method::HEAD].contains(request.method());
    if is_read {
        let is_file = match file(&root, path) {
            Some(file) => is_regular(file).await,
            None => false,
        };
        if !is_file {
            return StatusCode::NOT_FOUND.into_response();
        }
    }
    next.run(request).await
}

/// Returns the file or directory that the path of a request names, as [`ServeDir`] does.
fn file(root: &Path, path: &str) -> Option<PathBuf> {
    let path = percent_decode_str(path.trim_start_matches('/'));
    let path = path.decode_utf8().ok()?;
    let mut file = root.to_path_buf();
    for component in Path::new(&*path).components() {
        match component {
            Component::Normal(name) => file.push(name),
            Component::CurDir => {}
            _ => return None,
        }
    }
    Some(file)
}

/// Returns whether `path` is a regular file, or a directory whose index is one or is missing.
async fn is_regular(path: PathBuf) -> bool {
    let Ok(found) = tokio::fs::metadata(&path).await else {
        return false;
    };
    if !found.is_dir() {
        return found.is_file();
    }
    let index = tokio::fs::metadata(path.join(INDEX)).await;
    index.map_or(true, |found| found.is_file())
}
