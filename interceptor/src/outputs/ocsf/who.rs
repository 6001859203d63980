//! The objects of events: who acts, on what.

use serde_json::{Map, Value, json};

/// Who acts: the principal's process and user, or whoever spoke on a control socket.
pub(super) fn actor(line: &Value) -> Value {
    let who = line
        .get("principal")
        .or_else(|| line.get("caller"))
        .unwrap_or(&Value::Null);
    let mut actor = Map::new();
    let agent = line
        .pointer("/principal/agent")
        .or_else(|| line.get("agent"));
    actor.insert(
        "app_name".to_owned(),
        agent.cloned().unwrap_or_else(|| "interceptor".into()),
    );
    if let Some(user) = user(who) {
        actor.insert("user".to_owned(), user);
    }
    if let Some(process) = who.get("process") {
        actor.insert("process".to_owned(), self::process(process));
    }
    let session = line.get("session").or_else(|| line.get("connection"));
    if let Some(session) = session {
        actor.insert("session".to_owned(), json!({ "uid": session }));
    }
    Value::Object(actor)
}

fn user(who: &Value) -> Option<Value> {
    let uid = who.pointer("/user/uid")?.to_string();
    let mut user = json!({ "uid": uid });
    if let (Value::Object(fields), Some(name)) = (&mut user, who.pointer("/user/name")) {
        fields.insert("name".to_owned(), name.clone());
    }
    Some(user)
}

fn process(process: &Value) -> Value {
    let mut found = Map::new();
    if let Some(pid) = process.get("pid") {
        found.insert("pid".to_owned(), pid.clone());
    }
    if let Some(path) = process.pointer("/executable/path").and_then(Value::as_str) {
        let name = path.rsplit('/').next().unwrap_or(path);
        let mut file = json!({ "name": name, "path": path, "type_id": 1 });
        if let (Value::Object(fields), Some(hash)) =
            (&mut file, process.pointer("/executable/sha256"))
        {
            let hash = json!([{ "algorithm_id": 3, "value": hash }]);
            fields.insert("hashes".to_owned(), hash);
        }
        found.insert("name".to_owned(), name.into());
        found.insert("file".to_owned(), file);
    }
    if let Some(argv) = process.get("argv").and_then(Value::as_array) {
        let words: Vec<_> = argv.iter().filter_map(Value::as_str).collect();
        found.insert("cmd_line".to_owned(), words.join(" ").into());
    }
    Value::Object(found)
}

/// Where to: the target, and the address where it is known.
pub(super) fn destination(line: &Value) -> Value {
    let mut to = Map::new();
    let address = ["/upstream", "/destination"]
        .iter()
        .find_map(|place| line.pointer(place)?.as_str());
    if let Some(address) = address.and_then(|text| text.parse::<std::net::SocketAddr>().ok()) {
        to.insert("ip".to_owned(), address.ip().to_string().into());
        to.insert("port".to_owned(), address.port().into());
    }
    let target = line
        .get("target")
        .cloned()
        .unwrap_or_else(|| "unknown".into());
    to.insert("name".to_owned(), target.clone());
    to.insert("svc_name".to_owned(), target);
    Value::Object(to)
}

/// Which database.
pub(super) fn database(line: &Value) -> Value {
    let name = line.get("database").or_else(|| line.get("target"));
    json!({ "name": name.cloned().unwrap_or_else(|| "unknown".into()), "type_id": 1 })
}
