//! The page: one document, one style, one script, all in the program.

use axum::Router;
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse as _, Response};
use axum::routing::get;

use crate::control::Shared;

const PAGE: &str = include_str!("assets/console.html");
const STYLE: &str = include_str!("assets/console.css");
/// In this order one script: each but the last only defines what the next uses.
const SCRIPTS: [(&str, &str); 7] = [
    ("/page.js", include_str!("assets/page.js")),
    ("/factor.js", include_str!("assets/factor.js")),
    ("/views.js", include_str!("assets/views.js")),
    ("/standin.js", include_str!("assets/standin.js")),
    ("/screen.js", include_str!("assets/screen.js")),
    ("/replay.js", include_str!("assets/replay.js")),
    ("/console.js", include_str!("assets/console.js")),
];

/// Where each is.
pub(super) fn routes() -> Router<Shared> {
    let mut routes = Router::new()
        .route("/", get(page))
        .route("/login", get(page))
        .route("/console.css", get(style))
        .route("/favicon.ico", get(nothing));
    for (path, text) in SCRIPTS {
        routes = routes.route(path, get(move || script(text)));
    }
    routes
}

/// The page itself; it shows nothing to who is not logged in.
pub(super) async fn page() -> Response {
    of("text/html; charset=utf-8", PAGE)
}

async fn style() -> Response {
    of("text/css; charset=utf-8", STYLE)
}

async fn script(text: &'static str) -> Response {
    of("text/javascript; charset=utf-8", text)
}

async fn nothing() -> StatusCode {
    StatusCode::NO_CONTENT
}

fn of(kind: &'static str, text: &'static str) -> Response {
    ([(CONTENT_TYPE, kind)], text).into_response()
}
