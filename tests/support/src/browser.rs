//! A headless Chromium, driven by its own protocol over two pipes (`--remote-debugging-pipe`): each message is
//! JSON with a NUL behind it. What its pages complain of is kept.

use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::fs::chown;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, sync_channel};
use std::thread;

use anyhow::{Context as _, bail, ensure};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::{DEADLINE, place, wait};

/// Its pipes are numbers 3 and 4 (`remote-debugging-pipe`).
const PIPES: &str = r#"exec 3<&0 4>&1 </dev/null >/dev/null 2>&1; exec "$@""#;

/// A browser with one page. Killed when dropped.
pub struct Browser {
    child: Child,
    input: ChildStdin,
    messages: Receiver<Value>,
    next: u64,
    page: Option<String>,
    complaints: Vec<String>,
    _home: TempDir,
}

impl Browser {
    /// Starts one as an ordinary user outside of every scope.
    ///
    /// # Errors
    /// When there is none, or it does not answer.
    pub fn start(uid: u32) -> anyhow::Result<Self> {
        let home = place::temporary("browser")?;
        chown(home.path(), Some(uid), None).context("give the browser its directory")?;
        let user = format!("--reuid={uid}");
        let data = format!("--user-data-dir={}", home.path().join("data").display());
        let mut command = Command::new("sh");
        command
            .args([
                "-c",
                PIPES,
                "browser",
                "setpriv",
                &user,
                "--clear-groups",
                "--",
            ])
            // A container has no namespaces to build its own walls of.
            .args([
                "chromium",
                "--headless=new",
                "--no-sandbox",
                "--remote-debugging-pipe",
            ])
            .args([
                "--disable-gpu",
                "--disable-dev-shm-usage",
                "--no-first-run",
                &data,
            ])
            .args([
                "--disable-background-networking",
                "--disable-component-update",
            ])
            .args(["--disable-extensions", "--no-proxy-server", "about:blank"])
            .env_clear()
            .env("PATH", "/usr/local/bin:/usr/bin:/bin")
            .env("HOME", home.path())
            .env("LC_ALL", "C.UTF-8")
            .current_dir("/")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped());
        let mut child = command.spawn().context("start a browser")?;
        let (input, output) = (child.stdin.take(), child.stdout.take());
        let (input, output) = input.zip(output).context("no pipes to the browser")?;
        let (sender, messages) = sync_channel(1_024);
        thread::spawn(move || {
            for message in BufReader::new(output).split(0).map_while(Result::ok) {
                let read = serde_json::from_slice(&message);
                if read.is_ok_and(|message| sender.send(message).is_err()) {
                    return;
                }
            }
        });
        let mut browser = Self {
            child,
            input,
            messages,
            next: 0,
            page: None,
            complaints: Vec::new(),
            _home: home,
        };
        browser
            .attach()
            .context("is Chromium installed? `cargo xtask setup e2e` installs it")?;
        Ok(browser)
    }

    fn attach(&mut self) -> anyhow::Result<()> {
        let made = self.call("Target.createTarget", json!({ "url": "about:blank" }))?;
        let wanted = json!({ "targetId": at(&made, "/targetId"), "flatten": true });
        let attached = self.call("Target.attachToTarget", wanted)?;
        self.page = at(&attached, "/sessionId").as_str().map(str::to_owned);
        for domain in ["Page.enable", "Runtime.enable", "Log.enable"] {
            self.call(domain, json!({}))?;
        }
        Ok(())
    }

    /// Calls a method of its protocol; the answer.
    ///
    /// # Errors
    /// When it answers with an error, or not at all.
    pub fn call(&mut self, method: &str, parameters: Value) -> anyhow::Result<Value> {
        self.next += 1;
        let mut message = json!({ "id": self.next, "method": method, "params": parameters });
        if let Some(page) = &self.page {
            insert(&mut message, "sessionId", page.as_str());
        }
        let mut bytes = serde_json::to_vec(&message).context("write a message")?;
        bytes.push(0);
        self.input.write_all(&bytes).context("tell the browser")?;
        self.input.flush().context("tell the browser")?;
        loop {
            let said = self.messages.recv_timeout(DEADLINE);
            let said = said.with_context(|| format!("no answer to {method}"))?;
            self.note(&said);
            if at(&said, "/id") == self.next {
                ensure!(
                    at(&said, "/error").is_null(),
                    "{method}: {}",
                    at(&said, "/error")
                );
                return Ok(at(&said, "/result").clone());
            }
        }
    }

    fn note(&mut self, said: &Value) {
        let complaint = match at(said, "/method").as_str() {
            Some("Runtime.exceptionThrown") => at(said, "/params/exceptionDetails"),
            Some("Log.entryAdded") if at(said, "/params/entry/source") == "security" => {
                at(said, "/params/entry/text")
            }
            _ => return,
        };
        self.complaints.push(complaint.to_string());
    }

    /// What its pages did that they should not: exceptions nobody caught, and what their policy refused.
    #[must_use]
    pub fn complaints(&self) -> &[String] {
        &self.complaints
    }

    /// Goes to an address, without waiting for its page.
    ///
    /// # Errors
    /// When it cannot.
    pub fn open(&mut self, url: &str) -> anyhow::Result<()> {
        let gone = self.call("Page.navigate", json!({ "url": url }))?;
        ensure!(
            at(&gone, "/errorText").is_null(),
            "{url}: {}",
            at(&gone, "/errorText")
        );
        Ok(())
    }

    /// What an expression is in the page.
    ///
    /// # Errors
    /// When it throws.
    pub fn value(&mut self, expression: &str) -> anyhow::Result<Value> {
        let parameters =
            json!({ "expression": expression, "awaitPromise": true, "returnByValue": true });
        let said = self.call("Runtime.evaluate", parameters)?;
        if !at(&said, "/exceptionDetails").is_null() {
            bail!("{expression}: {}", at(&said, "/exceptionDetails"));
        }
        Ok(at(&said, "/result/value").clone())
    }

    /// Waits until an expression is true in the page.
    ///
    /// # Errors
    /// When it never is; the text has what the page shows.
    pub fn wait(&mut self, expression: &str) -> anyhow::Result<()> {
        let waited = wait::for_fact(expression, DEADLINE, || {
            // A page that is being left has nothing to say.
            let now = self.value(expression).unwrap_or(Value::Null);
            Ok((now == true).then_some(()))
        });
        waited.or_else(|error| {
            let shown = self.text().unwrap_or_default();
            bail!(
                "{error:#}; complaints {:?}; the page:\n{shown}",
                self.complaints
            )
        })
    }

    /// Waits until the page shows a text.
    ///
    /// # Errors
    /// As [`Browser::wait`].
    pub fn shows(&mut self, text: &str) -> anyhow::Result<()> {
        self.wait(&format!(
            "document.body.innerText.includes({})",
            json!(text)
        ))
    }

    /// What the page shows.
    ///
    /// # Errors
    /// When it cannot be asked.
    pub fn text(&mut self) -> anyhow::Result<String> {
        let text = self.value("location.href + '\\n' + document.body.innerText")?;
        Ok(text.as_str().unwrap_or_default().to_owned())
    }

    /// Waits for what a selector names, and clicks on it.
    ///
    /// # Errors
    /// As [`Browser::wait`].
    pub fn click(&mut self, selector: &str) -> anyhow::Result<()> {
        let found = format!("document.querySelector({})", json!(selector));
        self.wait(&format!("{found} !== null"))?;
        self.value(&format!("{found}.click()")).map(drop)
    }

    /// Types a text where the focus is.
    ///
    /// # Errors
    /// When it cannot.
    pub fn typed(&mut self, text: &str) -> anyhow::Result<()> {
        self.call("Input.insertText", json!({ "text": text }))
            .map(drop)
    }

    /// Presses a key: `a`, or `Enter`.
    ///
    /// # Errors
    /// When it cannot.
    pub fn press(&mut self, key: &str) -> anyhow::Result<()> {
        let text = if key == "Enter" { "\r" } else { key };
        for kind in ["keyDown", "keyUp"] {
            let mut event = json!({ "type": kind, "key": key });
            if kind == "keyDown" && text.chars().count() == 1 {
                insert(&mut event, "text", text);
            }
            if key == "Enter" {
                insert(&mut event, "windowsVirtualKeyCode", 13);
            }
            self.call("Input.dispatchKeyEvent", event)?;
        }
        Ok(())
    }
}

/// What stands at a place of a message.
fn at<'a>(message: &'a Value, place: &str) -> &'a Value {
    message.pointer(place).unwrap_or(&Value::Null)
}

fn insert(message: &mut Value, name: &str, value: impl Into<Value>) {
    if let Value::Object(fields) = message {
        fields.insert(name.to_owned(), value.into());
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        // It ends when its pipe does; who does not is ended.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}
