use super::*;

fn names() -> Names {
    Names {
        search_path: Some(vec!["public".into()]),
        catalog: Arc::new(["pg_class", "pg_type", "pg_settings"].map(String::from).into()),
        prepared: HashMap::new(),
        in_transaction: false,
        utf8: true,
    }
}

#[test]
fn corpus() {
    let path = std::env::var("FACTS_SQL").unwrap_or_default();
    let Ok(text) = std::fs::read_to_string(path) else { return };
    for line in text.split('\u{1}') {
        let facts = read(line, &names());
        println!("{} | {} | {:?} {:?}", facts.reading.redacted, facts.reading.summary, facts.readable, facts.effects);
        for ask in &facts.reading.asks { println!("    {:?} {:?}", ask.accesses.iter().map(|a| format!("{:?} {:?}", a.action, a.resource)).collect::<Vec<_>>(), ask.context); }
    }
}
