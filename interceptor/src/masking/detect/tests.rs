//! Each kind with values and near misses, and that nothing depends on how the bytes are cut.

use proptest::collection::vec;
use proptest::prelude::*;

use super::{Action, Actions, Detectors, Kind, Scan};

fn all(action: Action) -> Detectors {
    let actions: Actions = Kind::ALL.iter().map(|kind| (*kind, action)).collect();
    Detectors::new(&actions).expect("detectors")
}

fn only(kind: Kind) -> Detectors {
    Detectors::new(&Actions::from([(kind, Action::Mask)])).expect("detectors")
}

/// Values as they are found, from their first piece to their last.
fn found(with: &Detectors, text: &[u8]) -> Vec<(Kind, usize, usize)> {
    cut(with, text, &[])
}

fn cut(with: &Detectors, text: &[u8], cuts: &[usize]) -> Vec<(Kind, usize, usize)> {
    let (mut scan, mut found, mut decided) = (Scan::default(), Vec::new(), 0);
    let ends = cuts.iter().copied().filter(|cut| *cut < text.len());
    for (end, last) in ends.map(|cut| (cut, false)).chain([(text.len(), true)]) {
        let base = decided;
        let shown = &text[base.min(end)..end];
        decided += scan.step(with, shown, last, |piece| {
            assert!(piece.start <= piece.end && piece.end <= shown.len());
            if piece.begins {
                found.push((piece.kind, base + piece.start, 0));
            }
            let open = found.last_mut().expect("a value that has begun");
            assert_eq!(open.0, piece.kind);
            if piece.ends {
                open.2 = base + piece.end;
            }
        });
        assert!(end - decided <= 2_048, "held {}", end - decided);
    }
    found
}

/// Characters that look random, of an alphabet.
fn body(length: usize, alphabet: &str) -> String {
    let letters: Vec<char> = alphabet.chars().collect();
    let mut state = 7_usize;
    (0..length)
        .map(|_| {
            state = (state * 1_103_515_245 + 12_345) % (1 << 31);
            letters[(state >> 13) % letters.len()]
        })
        .collect()
}

const ALNUM: &str = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789";
const HEX: &str = "0123456789abcdef";

/// Values that are written out, with others that nearly are: wrong check digits, parts of longer words.
const WRITTEN: &[(Kind, &[&str], &[&str])] = &[
    (
        Kind::Card,
        &[
            "4111111111111111",
            "4111 1111 1111 1111",
            "4111-1111-1111-1111",
            "378282246310005",
            "3782 822463 10005",
            "30569309025904",
            "6212345678901234569",
            "5555555555554444",
        ],
        &[
            "4111111111111112",
            "4111 1111-1111 1111",
            "41111111111111111",
            "a4111111111111111",
            "4111111111111111b",
            "0.4111111111111111",
            "9111111111111111",
            "4111111111111111.25",
            "550e8400-e29b-41d4-a716-4111111111111111",
            "0000000000000000",
        ],
    ),
    (
        Kind::Iban,
        &[
            "DE89370400440532013000",
            "DE89 3704 0044 0532 0130 00",
            "FR1420041010050500013M02606",
            "GB82 WEST 1234 5698 7654 32",
            "NO9386011117947",
            "de89370400440532013000",
        ],
        &[
            "DE88370400440532013000",
            "DE8937040044053201300",
            "XDE89370400440532013000",
            "DE893704004405320130001",
            "ZZ89370400440532013000",
        ],
    ),
    (
        Kind::Email,
        &[
            "ada@example.org",
            "a.b+c_d@mail.example.co.uk",
            "x@xn--bcher-kva.example",
        ],
        &[
            "ada@example",
            "@example.org",
            "ada@@example.org",
            "ada@.org",
            "ada@example.c0m1",
            "ada @example.org",
        ],
    ),
    (
        Kind::Phone,
        &[
            "+14155552671",
            "+1 415 555 2671",
            "+49 (0)30 1234567",
            "(415) 555-2671",
            "415-555-2671",
            "415.555.2671",
            "01 23 45 67 89",
            "020 7946 0018",
            "01632 960001",
            "030/1234567",
        ],
        &[
            "115-555-2671",
            "415-155-2671",
            "+0123456789",
            "+1234",
            "4155552671",
            "2026-11-27",
            "+1234567890123456",
        ],
    ),
    (
        Kind::UsSsn,
        &["123-45-6789", "123 45 6789"],
        &[
            "000-45-6789",
            "666-45-6789",
            "923-45-6789",
            "123-00-6789",
            "123-45-0000",
            "1123-45-6789",
            "123-45-67890",
        ],
    ),
    (
        Kind::UkNino,
        &["AB123456C", "AB 12 34 56 C"],
        &[
            "BG123456C",
            "AB123456E",
            "DB123456C",
            "AO123456C",
            "XAB123456C",
            "AB123456CD",
            "AB 12 34 56 E",
        ],
    ),
    (
        Kind::DeIdnr,
        &["86095742719", "65929970489", "86 095 742 719"],
        &["86095742718", "12345678901", "06095742719"],
    ),
    (
        Kind::DeIdCard,
        &["T220001293", "L01X00T471", "T220001293D"],
        &["T220001294", "A220001293", "T2200012935", "XT220001293"],
    ),
    (
        Kind::FrNir,
        &[
            "255081416802538",
            "2 55 08 14 168 025 38",
            "185052A00402854",
        ],
        &["255081416802539", "355081416802538", "255131416802538"],
    ),
    (
        Kind::EsDni,
        &["12345678Z", "12345678-Z", "X1234567L"],
        &["12345678A", "X1234567M", "123456789Z", "12345678ZA"],
    ),
    (
        Kind::ItCf,
        &["RSSMRA85T10A562S"],
        &["RSSMRA85T10A562T", "RSSMRA85F10A562S", "XRSSMRA85T10A562S"],
    ),
    (
        Kind::BrCpf,
        &["529.982.247-25", "52998224725"],
        &["529.982.247-24", "52998224724", "11111111111"],
    ),
    (
        Kind::BrCnpj,
        &["11.222.333/0001-81", "11222333000181"],
        &["11.222.333/0001-82", "11222333000182", "00000000000000"],
    ),
    (
        Kind::PlPesel,
        &["44051401359"],
        &["44051401358", "44131401359"],
    ),
    (
        Kind::InAadhaar,
        &["2341 2341 2346", "234123412346"],
        &["2341 2341 2347", "134123412346", "2341-2341 2346"],
    ),
    (
        Kind::BeNrn,
        &["85.07.30-033.28", "85073003328"],
        &["85.07.30-033.27", "85133003328"],
    ),
    (
        Kind::TrTckn,
        &["10000000146"],
        &["10000000147", "01000000146"],
    ),
    (
        Kind::ChAhv,
        &["756.9217.0769.85", "7569217076985"],
        &["756.9217.0769.86", "7579217076985"],
    ),
    (
        Kind::CnRin,
        &["11010519491231002X"],
        &[
            "11010519491231002x",
            "110105194912310021",
            "11010519491331002X",
        ],
    ),
    (
        Kind::SePnr,
        &["811218-9876", "19811218-9876"],
        &["811218-9877", "811318-9876"],
    ),
    (
        Kind::CaSin,
        &["130-692-544"],
        &["130-692-545", "046-454-286", "130 692 544"],
    ),
    (
        Kind::Ip,
        &[
            "10.20.30.40",
            "192.168.0.1",
            "2001:db8::8a2e:370:7334",
            "fe80::1ff:fe23:4567:890a",
            "2001:db8:0:0:0:0:2:1",
            "::ffff:10.0.0.1",
        ],
        &[
            "10.20.30",
            "10.20.30.256",
            "10.20.30.40.50",
            "1.2.3.04",
            "127.0.0.1",
            "12:34:56",
            "std::dec",
            "a10.20.30.40",
            "1:2:3:4:5:6:7:8:9",
        ],
    ),
    (
        Kind::AwsKey,
        &["AKIAIOSFODNN7EXAMPLE", "x/AKIAIOSFODNN7EXAMPLE"],
        &[
            "AKIAIOSFODNN7EXAMPL",
            "XAKIAIOSFODNN7EXAMPLE",
            "AKIAIOSFODNN7EXAMPLEX",
            "akiaiosfodnn7example",
        ],
    ),
];

#[test]
fn values_are_found_and_near_misses_are_not() {
    for (kind, values, misses) in WRITTEN {
        for value in *values {
            check_value(*kind, value);
        }
        for miss in *misses {
            check_miss(*kind, miss);
        }
    }
}

/// It is found as a whole wherever it stands, and in no longer word.
fn check_value(kind: Kind, value: &str) {
    let with = only(kind);
    let last = value.rsplit('/').next().expect("a word");
    let skipped = value.len() - last.len();
    let skipped = if value.starts_with("x/") { skipped } else { 0 };
    for (before, after) in [
        ("", ""),
        ("is ", "."),
        ("\"", "\","),
        ("(", ")"),
        ("\u{e9}", "\u{e9}"),
        (",", ","),
        ("\t", "\n"),
        ("a\\n", "\\n"),
        ("=", ";"),
        ("x: ", "\r\n"),
        ("'", "'"),
    ] {
        let text = format!("{before}{value}{after}");
        let wanted = (kind, before.len() + skipped, before.len() + value.len());
        assert_eq!(found(&with, text.as_bytes()), [wanted], "{text:?}");
    }
    if kind != Kind::Email {
        for text in [
            format!("q{value}"),
            format!("{value}_q"),
            format!("_{value}"),
        ] {
            if !text.contains("+")
                && !text.contains('(')
                && !text.starts_with("qx/")
                && !text.starts_with("_x/")
                && !value.contains(':')
            {
                assert_eq!(found(&with, text.as_bytes()), [], "{text:?}");
            }
        }
    }
}

fn check_miss(kind: Kind, miss: &str) {
    assert_eq!(found(&only(kind), miss.as_bytes()), [], "{kind:?} {miss:?}");
    let text = format!("see {miss}, or not");
    assert_eq!(found(&only(kind), text.as_bytes()), [], "{text:?}");
}

/// Keys, put together here so that no other detector takes them for real ones.
fn keys() -> Vec<(Kind, String)> {
    let alnum = |count| body(count, ALNUM);
    let hex = |count| body(count, HEX);
    vec![
        (Kind::GcpKey, format!("AIza{}", alnum(35))),
        (Kind::GithubToken, format!("ghp_{}", alnum(36))),
        (Kind::GithubToken, format!("github_pat_{}", alnum(82))),
        (Kind::GitlabToken, format!("glpat-{}", alnum(20))),
        (
            Kind::SlackToken,
            format!("xoxb-{}-{}", "1".repeat(12), alnum(24)),
        ),
        (Kind::StripeKey, format!("sk_live_{}", alnum(24))),
        (Kind::AiKey, format!("sk-ant-api03-{}", alnum(95))),
        (Kind::AiKey, format!("sk-proj-{}", alnum(120))),
        (Kind::AiKey, format!("sk-{}", alnum(48))),
        (Kind::NpmToken, format!("npm_{}", alnum(36))),
        (
            Kind::PypiToken,
            format!("pypi-AgEIcHlwaS5vcmc{}", alnum(130)),
        ),
        (Kind::TwilioKey, format!("SK{}", hex(32))),
        (Kind::SendgridKey, format!("SG.{}.{}", alnum(22), alnum(43))),
        (
            Kind::Jwt,
            format!("eyJ{}.eyJ{}.{}", alnum(30), alnum(50), alnum(43)),
        ),
        (Kind::Secret, alnum(40)),
        (Kind::Secret, format!("{}==", body(86, ALNUM))),
    ]
}

#[test]
fn keys_are_found_and_shorter_ones_are_not() {
    for (kind, key) in keys() {
        let with = only(kind);
        for (before, after) in [
            ("", ""),
            ("key=", "\n"),
            ("\"", "\""),
            ("Bearer ", ","),
            ("a\\n", "\\n"),
        ] {
            let text = format!("{before}{key}{after}");
            let wanted = (kind, before.len(), before.len() + key.len());
            if !(kind == Kind::Secret && before.starts_with("a\\")) {
                assert_eq!(found(&with, text.as_bytes()), [wanted], "{text:?}");
            }
        }
        if !matches!(kind, Kind::Secret | Kind::Jwt) {
            let glued = format!("q{key}");
            assert_eq!(found(&with, glued.as_bytes()), [], "{glued:?}");
        }
        // Those of one length only, or of the least.
        let exact = [
            Kind::GcpKey,
            Kind::NpmToken,
            Kind::TwilioKey,
            Kind::SendgridKey,
            Kind::GitlabToken,
        ];
        if exact.contains(&kind) {
            let short = key.get(..key.len() - 1).expect("a shorter key");
            assert_eq!(found(&with, short.as_bytes()), [], "{short:?}");
        }
    }
}

#[test]
fn what_stands_beside_a_key_tells_what_it_is() {
    let secret = format!("{}/{}", body(20, ALNUM), body(19, "abcXYZ0123456789"));
    let aws = only(Kind::AwsKey);
    let pair = format!("AKIAIOSFODNN7EXAMPLE,{secret}");
    assert_eq!(
        found(&aws, pair.as_bytes()),
        [(Kind::AwsKey, 0, 20), (Kind::AwsKey, 21, 61)]
    );
    assert_eq!(found(&aws, format!("path,{secret}").as_bytes()), []);
    let key = body(86, ALNUM);
    let azure = format!("AccountName=a;AccountKey={key}==;Endpoint");
    assert_eq!(
        found(&only(Kind::AzureKey), azure.as_bytes()),
        [(Kind::AzureKey, 25, 113)]
    );
    assert_eq!(
        found(&only(Kind::AzureKey), format!("Key={key}==").as_bytes()),
        []
    );
    let hook = format!(
        "https://hooks.slack.com/services/T{0}/B{0}/{1}",
        body(9, "ABC0"),
        body(24, ALNUM)
    );
    assert_eq!(
        found(&only(Kind::SlackToken), hook.as_bytes()),
        [(Kind::SlackToken, 23, hook.len())]
    );
}

#[test]
fn private_keys_are_followed_to_their_end() {
    let block = |label: &str, lines: usize| {
        let line = body(64, ALNUM);
        let body = format!("{line}\n").repeat(lines);
        format!("-----BEGIN {label}-----\n{body}-----END {label}-----")
    };
    let with = only(Kind::PrivateKey);
    for label in [
        "PRIVATE KEY",
        "RSA PRIVATE KEY",
        "OPENSSH PRIVATE KEY",
        "ENCRYPTED PRIVATE KEY",
    ] {
        for lines in [0, 3, 2_000] {
            let key = block(label, lines);
            let text = format!("key: {key}\nnext line");
            assert_eq!(
                found(&with, text.as_bytes()),
                [(Kind::PrivateKey, 5, 5 + key.len())]
            );
            let escaped = format!("{{\"key\":\"{}\",\"a\":1}}", key.replace('\n', "\\n"));
            let length = key.replace('\n', "\\n").len();
            assert_eq!(
                found(&with, escaped.as_bytes()),
                [(Kind::PrivateKey, 8, 8 + length)]
            );
        }
    }
    for harmless in [
        block("CERTIFICATE", 3),
        block("PUBLIC KEY", 3),
        "-----BEGIN PRIVATE KEY----".to_owned(),
    ] {
        assert_eq!(found(&with, harmless.as_bytes()), [], "{harmless}");
    }
}

#[test]
fn names_paths_and_hashes_are_no_secrets() {
    let with = only(Kind::Secret);
    for text in [
        "/usr/lib/python3/dist-packages/pip/_internal/Cache2",
        "OAuth2LoginAuthenticationFilter",
        "getUserById2AndName3",
        "da39a3ee5e6b4b0d3255bfef95601890afd80709",
        "THE_LONGEST_CONSTANT_NAME_2",
        "550E8400-e29b-41d4-a716-446655440000",
        "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
        "2026-11-27T01/02/03-0000000",
    ] {
        assert_eq!(found(&with, text.as_bytes()), [], "{text}");
    }
    assert_eq!(found(&with, body(300, ALNUM).as_bytes()), []);
}

#[test]
fn masks_keep_the_length_and_all_that_is_not_found() {
    let with = all(Action::Mask);
    let mut text = "né ada@example.org né 4111 1111 1111 1111\n"
        .as_bytes()
        .to_vec();
    with.mask(&mut text, |_| {});
    let text = String::from_utf8(text).expect("UTF-8");
    assert_eq!(text, "né *************** né *******************\n");
    let replaced = with.replace("to ada@example.org, now".as_bytes(), |kind| {
        format!("[{}]", kind.word())
    });
    assert_eq!(replaced.expect("replaced"), b"to [email], now");
    assert_eq!(with.replace(b"nothing here", |_| String::new()), None);
}

#[test]
fn words_name_one_kind_each() {
    for kind in Kind::ALL {
        assert_eq!(Kind::of(kind.word()), Some(*kind));
    }
    assert_eq!(Kind::of("none"), None);
}

/// A text with everything in it.
fn rich() -> Vec<u8> {
    let mut text = String::new();
    for (_, values, misses) in WRITTEN {
        for (index, value) in values.iter().chain(*misses).enumerate() {
            text.push_str(value);
            text.push_str([" ", "\n", ",", "\t", "é", "\\n"][index % 6]);
        }
    }
    for (index, (_, key)) in keys().into_iter().enumerate() {
        text.push_str(&key);
        text.push_str([" ", "/", "-", ".", "\n"][index % 5]);
    }
    text.push_str("-----BEGIN EC PRIVATE KEY-----\nabcd\n-----END EC PRIVATE KEY-----\n");
    text.into_bytes()
}

#[test]
fn no_cut_changes_what_is_found() {
    let with = all(Action::Report);
    let text = rich();
    let whole = found(&with, &text);
    assert!(whole.len() > 75, "{}", whole.len());
    for at in 1..text.len() {
        assert_eq!(cut(&with, &text, &[at]), whole, "cut at {at}");
    }
    for size in [1, 2, 3, 7, 64, 127] {
        let cuts: Vec<usize> = (size..text.len()).step_by(size).collect();
        assert_eq!(cut(&with, &text, &cuts), whole, "pieces of {size}");
    }
}

/// Bytes of which many values, and pieces of values, are made.
fn mixed() -> impl Strategy<Value = Vec<u8>> {
    let word = prop_oneof![
        vec(any::<u8>(), 0..8),
        "[0-9]{1,4}[ .:/@+(-]{0,2}".prop_map(String::into_bytes),
        "[A-Za-z0-9+/_-]{1,30}[.=\\\\]?".prop_map(String::into_bytes),
        (0..WRITTEN.len(), any::<prop::sample::Index>()).prop_map(|(row, which)| {
            let values = WRITTEN[row].1;
            values[which.index(values.len())].as_bytes().to_vec()
        }),
        any::<prop::sample::Index>().prop_map(|which| {
            let keys = keys();
            keys[which.index(keys.len())].1.clone().into_bytes()
        }),
        prop_oneof![
            Just("-----BEGIN RSA PRIVATE KEY-----"),
            Just("-----END RSA PRIVATE KEY-----"),
            Just("-----"),
            Just("eyJabcdefghijkl.eyJ"),
            Just("SG."),
            Just("::"),
            Just("\\n"),
        ]
        .prop_map(|text| text.as_bytes().to_vec()),
    ];
    vec(word, 0..24).prop_map(|words| words.concat())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn any_bytes_are_read_and_no_cuts_matter(text in mixed(), cuts in vec(0_usize..600, 0..12)) {
        let with = all(Action::Report);
        let whole = found(&with, &text);
        let mut cuts = cuts;
        cuts.sort_unstable();
        prop_assert!(cut(&with, &text, &cuts) == whole, "{:?}", String::from_utf8_lossy(&text));
        let each: Vec<usize> = (1..text.len()).collect();
        prop_assert!(cut(&with, &text, &each) == whole, "{:?}", String::from_utf8_lossy(&text));
        // What is found touches nothing but ASCII, stands in order, and does not overlap.
        let mut before = 0;
        for (_, start, end) in whole {
            prop_assert!(before <= start && start < end && end <= text.len());
            prop_assert!(text[start..end].is_ascii());
            before = end;
        }
    }
}
