//! A search path as text: what `SHOW search_path` gives and `set_config` takes.

/// Reads a search path as the server writes it: names parted by commas, quoted where they must be
/// (`SplitIdentifierString`). `None` for what is not such a list, and for `$user`.
pub fn listed(raw: &str) -> Option<Vec<String>> {
    let mut names = Vec::new();
    let mut rest = raw.trim_ascii();
    if rest.is_empty() {
        return Some(names);
    }
    loop {
        let name;
        (name, rest) = one(rest)?;
        if name == "$user" {
            return None;
        }
        // An empty name stands for no schema: `SET search_path = ''`.
        if !name.is_empty() {
            names.push(name);
        }
        rest = rest.trim_ascii_start();
        if rest.is_empty() {
            return Some(names);
        }
        rest = rest.strip_prefix(',')?.trim_ascii_start();
    }
}

fn one(rest: &str) -> Option<(String, &str)> {
    let Some(quoted) = rest.strip_prefix('"') else {
        let end = rest.find([',', ' ']).unwrap_or(rest.len());
        let (name, rest) = rest.split_at_checked(end)?;
        return (!name.is_empty()).then(|| (name.to_ascii_lowercase(), rest));
    };
    let mut name = String::new();
    let mut rest = quoted;
    loop {
        let (part, after) = rest.split_once('"')?;
        name.push_str(part);
        match after.strip_prefix('"') {
            Some(more) => {
                name.push('"');
                rest = more;
            }
            None => return Some((name, after)),
        }
    }
}
