//! What the values of limits may be, and which of several counts.

use super::*;

#[test]
fn a_value_is_a_number_of_at_least_one_and_a_size_may_have_a_unit() {
    for (name, value, most) in [
        ("max_rows", "1", Some(1)),
        ("max_rows", "1000", Some(1_000)),
        ("max_rows", "0", None),
        ("max_rows", "", None),
        ("max_rows", "-1", None),
        ("max_rows", "+1", None),
        ("max_rows", " 1", None),
        ("max_rows", "1_000", None),
        ("max_rows", "1e3", None),
        ("max_rows", "4KiB", None),
        ("max_rows", "18446744073709551616", None),
        ("max_session_rows", "18446744073709551615", Some(u64::MAX)),
        ("max_bytes", "100", Some(100)),
        ("max_bytes", "4KiB", Some(4_096)),
        ("max_bytes", "2MiB", Some(2 << 20)),
        ("max_session_bytes", "1GiB", Some(1 << 30)),
        ("max_session_bytes", "KiB", None),
        ("max_session_bytes", "0MiB", None),
        ("max_bytes", "18446744073709551615KiB", None),
        ("max_bytes", "4kb", None),
    ] {
        assert_eq!(parse(name, value).ok(), most, "@{name}({value:?})");
    }
}

#[test]
fn the_strictest_of_several_counts_each_for_itself() {
    let of = |rule: &str, rows: Option<&str>, bytes: Option<&str>| {
        Limits::of(&RuleId(rule.to_owned()), |name| match name {
            "max_rows" => rows.map(str::to_owned),
            "max_bytes" => bytes.map(str::to_owned),
            _ => None,
        })
    };
    let (a, b) = (of("a", Some("10"), Some("99")), of("b", Some("9"), None));
    let limits = Limits::strictest([&a, &b, &Limits::default()].into_iter()).unwrap();
    let said: Vec<_> = limits
        .said()
        .map(|(limit, what)| format!("{} {what} by {}", limit.most, limit.rule.0))
        .collect();
    assert_eq!(
        said,
        ["9 rows a request by b", "99 bytes of rows a request by a"]
    );
    assert_eq!(Limits::strictest([&Limits::default()].into_iter()), None);
}
