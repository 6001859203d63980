//! What every request must be before anybody looks at it: for this site, and sent by its own page.

use std::sync::Arc;

use axum::Extension;
use axum::extract::connect_info::ConnectInfo;
use axum::extract::{Request, State};
use axum::http::header::{
    CACHE_CONTROL, CONTENT_SECURITY_POLICY, COOKIE, HOST, ORIGIN, REFERRER_POLICY,
    X_CONTENT_TYPE_OPTIONS, X_FRAME_OPTIONS,
};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method};
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};

use crate::control::Shared;
use crate::control::caller::logins::Logins;
use crate::control::caller::{Answer, Known, Peer};

/// Nothing but our own files; nothing may frame them, and no text becomes a script.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; \
     img-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; \
     require-trusted-types-for 'script'; trusted-types 'none'";
/// What the page sends to show that it is the page.
const TOKEN: HeaderName = HeaderName::from_static("x-interceptor-token");
const SITE: HeaderName = HeaderName::from_static("sec-fetch-site");

/// Where the console is, as browsers say it.
#[derive(Debug)]
pub(super) struct Site {
    origin: String,
    host: String,
    secure: bool,
    /// The issuer by which people log in.
    pub(super) issuer: Option<String>,
}

impl Site {
    /// As the configuration says.
    pub(super) fn of(services: &Shared) -> Option<Self> {
        let config = services.config.load();
        let console = config.console.as_ref()?;
        Some(Self {
            origin: console.origin(),
            host: console.host(),
            secure: console.tls.is_some(),
            issuer: console.issuer.clone(),
        })
    }

    /// Where an issuer sends people back to.
    pub(super) fn back(&self) -> String {
        format!("{}/login/done", self.origin)
    }

    /// The cookie's name: one that no other host can set, where TLS lets that be said.
    fn cookie(&self) -> &'static str {
        match self.secure {
            true => "__Host-interceptor",
            false => "interceptor",
        }
    }

    /// A cookie with this in it; without anything one that ends it.
    pub(super) fn set(&self, value: &str) -> String {
        let name = self.cookie();
        let secure = if self.secure { "; Secure" } else { "" };
        let end = if value.is_empty() { "; Max-Age=0" } else { "" };
        format!("{name}={value}; Path=/; HttpOnly; SameSite=Strict{secure}{end}")
    }

    fn cookie_of<'a>(&self, headers: &'a HeaderMap) -> Option<&'a str> {
        let all = headers.get_all(COOKIE).iter();
        let pairs = all.filter_map(|line| line.to_str().ok());
        let mut pairs = pairs.flat_map(|line| line.split(';'));
        pairs.find_map(|pair| {
            let (name, value) = pair.trim().split_once('=')?;
            (name == self.cookie()).then_some(value)
        })
    }

    /// Whether it is for this host, and no other name that leads here.
    fn is_host(&self, headers: &HeaderMap) -> bool {
        let mut hosts = headers.get_all(HOST).iter();
        let said = hosts.next().map(HeaderValue::as_bytes);
        said == Some(self.host.as_bytes()) && hosts.next().is_none()
    }

    /// Why a request is not one of this site's page.
    fn wrong(&self, method: &Method, headers: &HeaderMap) -> Option<&'static str> {
        let text = |name: &HeaderName| headers.get(name).map(|value| value.to_str().unwrap_or(""));
        if !self.is_host(headers) {
            return Some("another host was asked for; `console.url` says which it is");
        }
        let is_read = method == Method::GET || method == Method::HEAD;
        match (text(&ORIGIN), text(&SITE)) {
            (Some(origin), _) if origin != self.origin => Some("another site's page asks for this"),
            // Who comes by a link, or types the address, sees only the page.
            (None, Some("none" | "cross-site" | "same-site")) if is_read => None,
            (_, Some(site)) if site != "same-origin" => Some("another site's page asks for this"),
            // A browser says at least one of them.
            (None, None) if !is_read => Some("who asks does not say from where"),
            _ => None,
        }
    }
}

/// Lets through what is for this site and comes from it; and says to the browser what the page may do.
pub(super) async fn guard(
    Extension(site): Extension<Arc<Site>>,
    request: Request,
    next: Next,
) -> Response {
    let mut response = match site.wrong(request.method(), request.headers()) {
        Some(why) => Answer::forbidden(why).into_response(),
        None => next.run(request).await,
    };
    let headers = response.headers_mut();
    for (name, value) in [
        (CONTENT_SECURITY_POLICY, POLICY),
        (X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (X_FRAME_OPTIONS, "DENY"),
        (REFERRER_POLICY, "no-referrer"),
        (CACHE_CONTROL, "no-store"),
        (
            HeaderName::from_static("cross-origin-opener-policy"),
            "same-origin",
        ),
        (
            HeaderName::from_static("cross-origin-resource-policy"),
            "same-origin",
        ),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
    response
}

/// Lets through what is for this site, wherever it comes from.
pub(super) async fn host(
    Extension(site): Extension<Arc<Site>>,
    request: Request,
    next: Next,
) -> Response {
    match site.is_host(request.headers()) {
        true => next.run(request).await,
        false => Answer::forbidden("another host was asked for").into_response(),
    }
}

/// Lets through who is logged in; the handlers see them as whoever they are on the control socket.
pub(super) async fn logged_in(
    State(services): State<Shared>,
    Extension(site): Extension<Arc<Site>>,
    Extension(logins): Extension<Arc<Logins>>,
    mut request: Request,
    next: Next,
) -> Response {
    let headers = request.headers();
    let token = headers.get(TOKEN).and_then(|value| value.to_str().ok());
    let found = site
        .cookie_of(headers)
        .zip(token)
        .and_then(|(cookie, token)| logins.find(cookie, token));
    let Some(session) = found.filter(|session| session.visitor.is_good(&services)) else {
        return Answer::logged_out().into_response();
    };
    let known = Some(Known::visiting(session.visitor.clone()));
    let extensions = request.extensions_mut();
    extensions.insert(ConnectInfo(Peer { known }));
    extensions.insert(session);
    next.run(request).await
}

#[cfg(test)]
mod tests {
    use super::*;

    fn site() -> Site {
        Site {
            origin: "http://127.0.0.1:9466".to_owned(),
            host: "127.0.0.1:9466".to_owned(),
            secure: false,
            issuer: None,
        }
    }

    #[test]
    fn only_its_own_page_asks_a_site_for_anything() {
        const HERE: &str = "127.0.0.1:9466";
        const OWN: &str = "http://127.0.0.1:9466";
        // What is asked, the host, the origin and the site that it says, and whether it is answered.
        let rows = [
            ("GET", HERE, "", "", true),
            ("GET", "", "", "", false),
            ("GET", "evil.example:9466", "", "", false),
            ("GET", "127.0.0.1:9466 127.0.0.1:9466", "", "", false),
            ("GET", HERE, "", "none", true),
            ("GET", HERE, "http://evil.example", "", false),
            ("POST", HERE, "", "", false),
            ("POST", HERE, OWN, "", true),
            ("POST", HERE, "null", "", false),
            ("POST", HERE, "http://127.0.0.1:9467", "", false),
            ("POST", HERE, "", "same-origin", true),
            ("POST", HERE, "", "none", false),
            ("POST", HERE, "", "same-site", false),
            ("POST", HERE, OWN, "cross-site", false),
        ];
        for (method, hosts, origin, from, expected) in rows {
            let mut headers = HeaderMap::new();
            for (name, values) in [(HOST, hosts), (ORIGIN, origin), (SITE, from)] {
                for value in values.split_whitespace() {
                    headers.append(name.clone(), HeaderValue::from_static(value));
                }
            }
            let asked: Method = method.parse().unwrap();
            let fine = site().wrong(&asked, &headers).is_none();
            assert_eq!(fine, expected, "{method} {headers:?}");
        }
    }

    #[test]
    fn a_cookie_is_for_this_site_alone() {
        let mut site = site();
        assert_eq!(
            site.set("x"),
            "interceptor=x; Path=/; HttpOnly; SameSite=Strict"
        );
        site.secure = true;
        assert_eq!(
            site.set("x"),
            "__Host-interceptor=x; Path=/; HttpOnly; SameSite=Strict; Secure"
        );
        let mut headers = HeaderMap::new();
        headers.append(
            COOKIE,
            HeaderValue::from_static("a=b; __Host-interceptor=y; c"),
        );
        assert_eq!(site.cookie_of(&headers), Some("y"));
        site.secure = false;
        assert_eq!(site.cookie_of(&headers), None);
    }
}
