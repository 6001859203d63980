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

#[test]
fn regress() {
    let Ok(text) = std::fs::read_to_string("/tmp/pgregress.txt") else { return };
    let (mut total, mut parsed_n, mut readable, mut disagree, mut problem, mut unresolved) = (0, 0, 0, 0, 0, 0);
    let mut time = std::time::Duration::ZERO;
    let mut deep = 0;
    let mut all = vec![];
    for file in text.split('\u{1}') {
        let Ok(statements) = pg_query::split_with_scanner(file) else { println!("split failed"); continue };
        for statement in statements {
            total += 1;
            all.push(statement.to_owned());
            match pg_query::parse(statement, 0) { Ok(_) => {}, Err(pg_query::Error::Decode(_)) => { deep += 1; continue; } Err(_) => continue }
            parsed_n += 1;
            let start = std::time::Instant::now();
            let facts = read(statement, &names());
            time += start.elapsed();
            if facts.readable { readable += 1; continue; }
            let (parsed, _) = parse(statement).unwrap();
            let (drafts, mut seen) = typed::walk(&parsed);
            let mut other = generic::walk(&parsed).unwrap();
            if !seen.agrees(&mut other) {
                disagree += 1;
                println!("DISAGREE {statement}");
                for (k, v) in &seen.kinds { if other.kinds.get(k) != Some(v) { println!("   kind {k} typed {v} generic {:?}", other.kinds.get(k)); } }
                for (k, v) in &other.kinds { if seen.kinds.get(k) != Some(v) { println!("   kind {k} generic {v} typed {:?}", seen.kinds.get(k)); } }
                seen.kinds.clear(); other.kinds.clear();
                if seen != other { println!("   T {seen:?}\n   G {other:?}"); }
            } else if let Some(p) = drafts.iter().find_map(|d| d.problem) { problem += 1; println!("PROBLEM {p}: {statement}"); }
            else { unresolved += 1; println!("UNRESOLVED {statement}"); }
        }
    }
    std::fs::write("/tmp/pgregress_statements.txt", all.join("\u{1}")).unwrap();
    println!("total {total} parsed {parsed_n} deep {deep} readable {readable} disagree {disagree} problem {problem} unresolved {unresolved} mean {:?}", time / parsed_n.max(1));
}

fn rss() -> u64 { std::fs::read_to_string("/proc/self/status").unwrap().lines().find(|l| l.starts_with("VmHWM")).unwrap().split_whitespace().nth(1).unwrap().parse().unwrap() }

#[test]
fn memory() {
    let Ok(kind) = std::env::var("FACTS_MEM") else { return };
    for text in ["", "  ", "-- x", "/* */"] { println!("{:?}", read(text, &names())); }
    let n = 155_000*2;
    let text = match kind.as_str() {
        "const" => format!("SELECT 1{}", ",1".repeat(n / 2 - 8)),
        "values" => format!("INSERT INTO t VALUES (1){}", ",(1)".repeat(n / 4 - 8)),
        "rows" => format!("INSERT INTO t VALUES (1, 'abcdefghij', 3.14, now()){}", ",(1,'abcdefghij',3.14,null)".repeat(n / 26 - 8)),
        "end" => "END;".repeat(1024),
        "from" => format!("SELECT FROM a{}", ",a".repeat(n / 2 - 8)),
        "func" => format!("SELECT f(){}", ",f()".repeat(n / 4 - 8)),
        "sort" => format!("SELECT 1 ORDER BY a{}", ",a".repeat(n / 2 - 16)),
        "case" => format!("SELECT CASE WHEN a THEN b {} END", "WHEN a THEN b ".repeat(n / 14 - 8)),
        "empty" => format!("SELECT f({})", "a.*,".repeat(n/4-8) + "1"),
        _ => panic!(),
    };
    let before = rss();
    let start = std::time::Instant::now();
    let facts = read(&text, &names());
    println!("{kind}: {} bytes readable {} {:?} rss {} -> {} MiB", text.len(), facts.readable, start.elapsed(), before >> 10, rss() >> 10);
}

#[test]
fn phases() {
    if std::env::var("FACTS_PHASES").is_err() { return };
    let n=158_000;
    for (kind, text) in [("const", format!("SELECT 1{}", ",1".repeat(n / 2 - 8))), ("from", format!("SELECT FROM a{}", ",a".repeat(n / 2 - 8)))] {
        let t = std::time::Instant::now();
        let p = pg_query::parse(&text, 0).unwrap().protobuf; println!("{kind} parse {:?}", t.elapsed());
        let t = std::time::Instant::now(); pg_query::scan_tokens(&text).unwrap(); println!("scan {:?}", t.elapsed());
        let t = std::time::Instant::now(); fingerprint(&text); println!("fingerprint {:?}", t.elapsed());
        let t = std::time::Instant::now(); typed::walk(&p); println!("typed {:?}", t.elapsed());
        if kind == "const" { let t = std::time::Instant::now(); generic::walk(&p); println!("generic {:?}", t.elapsed()); }
    }
}
