//! Questions and answers: what is carried on, and what is not.

use std::net::{Ipv4Addr, Ipv6Addr};

use hickory_proto::rr::rdata::svcb::{Alpn, EchConfigList, IpHint, Mandatory};
use hickory_proto::rr::rdata::{A, AAAA, CNAME, HTTPS, TXT};

use super::*;

fn name(text: &str) -> Name {
    Name::from_ascii(text).unwrap()
}

fn asks(text: &str, kind: RecordType, change: impl FnOnce(&mut Message)) -> Vec<u8> {
    let mut message = Message::new(7, MessageType::Query, OpCode::Query);
    message.metadata.recursion_desired = true;
    message.add_query(Query::query(name(text), kind));
    change(&mut message);
    message.to_vec().unwrap()
}

fn question(text: &str, kind: RecordType) -> Question {
    Question::read(&asks(text, kind, |_| {})).unwrap()
}

/// What an upstream answers, with a change of it.
fn answered(
    question: &Question,
    records: Vec<Record>,
    change: impl FnOnce(&mut Message),
) -> Result<Answer, Wrong> {
    let (bytes, query) = question.ask(9, true).unwrap();
    let asked = Message::from_vec(&bytes).unwrap();
    let mut message = Message::response(9, OpCode::Query);
    message.add_queries(asked.queries);
    message.add_answers(records);
    change(&mut message);
    question.sift(&message.to_vec().unwrap(), (9, &query), |ip| ip.is_ipv4())
}

fn record(owner: &str, data: RData) -> Record {
    Record::from_rdata(name(owner), 300, data)
}

fn a(owner: &str, ip: [u8; 4]) -> Record {
    record(owner, RData::A(A(Ipv4Addr::from(ip))))
}

#[test]
fn only_one_plain_question_is_read() {
    let read = question("CRM.db.Internal.", RecordType::A);
    assert_eq!(
        (read.name.as_str(), read.qtype.as_str()),
        ("crm.db.internal", "A")
    );
    let rcode = |bytes: &[u8]| {
        let malformed = Question::read(bytes).unwrap_err();
        let reply = Message::from_vec(&malformed.reply?).unwrap();
        assert_eq!(reply.metadata.id, 7);
        Some(reply.metadata.response_code)
    };
    let with = |change: fn(&mut Message)| rcode(&asks("a.b.", RecordType::A, change));
    let code = |code| Some(code);
    assert_eq!(rcode(b"nonsense"), None);
    assert_eq!(
        with(|m| m.metadata.message_type = MessageType::Response),
        None
    );
    assert_eq!(
        with(|m| m.metadata.op_code = OpCode::Status),
        code(ResponseCode::NotImp)
    );
    let more = |m: &mut Message| {
        m.add_query(Query::query(
            Name::from_ascii("c.d.").unwrap(),
            RecordType::A,
        ));
    };
    assert_eq!(with(more), code(ResponseCode::FormErr));
    let beside = |m: &mut Message| {
        m.add_answer(a("a.b.", [1, 2, 3, 4]));
    };
    assert_eq!(with(beside), code(ResponseCode::FormErr));
    let class = |m: &mut Message| m.queries[0].query_class = DNSClass::CH;
    assert_eq!(with(class), code(ResponseCode::Refused));
    // A dot within a label would make it another name in policy.
    let dotted = Name::from_labels([b"a.b".as_slice(), b"c"]).unwrap();
    let mut odd = Message::new(7, MessageType::Query, OpCode::Query);
    odd.add_query(Query::query(dotted, RecordType::A));
    assert_eq!(rcode(&odd.to_vec().unwrap()), code(ResponseCode::Refused));
    let mut root = Message::new(7, MessageType::Query, OpCode::Query);
    root.add_query(Query::query(Name::root(), RecordType::NS));
    assert_eq!(rcode(&root.to_vec().unwrap()), code(ResponseCode::Refused));
}

#[test]
fn a_question_goes_upstream_anew() {
    let long = "abcdefghijklmnopqrstuvwxyz.abcdefghijklmnopqrstuvwxyz.example.";
    let read = Question::read(&asks(long, RecordType::A, |message| {
        message.metadata.id = 7;
        let mut edns = Edns::new();
        edns.options_mut()
            .insert(EdnsOption::Unknown(65_001, b"out with it".to_vec()));
        message.set_edns(edns);
    }))
    .unwrap();
    let (bytes, query) = read.ask(9, true).unwrap();
    let sent = Message::from_vec(&bytes).unwrap();
    assert_eq!((sent.metadata.id, sent.queries.len()), (9, 1));
    assert!(sent.edns.unwrap().options().options.is_empty());
    // Of fifty letters some are of another case, each time others.
    assert!(!query.name().eq_case(&name(long)));
    let (_, again) = read.ask(9, true).unwrap();
    assert!(!query.name().eq_case(again.name()));
    let (_, plain) = read.ask(9, false).unwrap();
    assert!(plain.name().eq_case(&name(long)));
}

#[test]
fn an_answer_to_something_else_is_not_believed() {
    let asked = question("a-long-name-of-many-letters.example.", RecordType::A);
    let of = || vec![a("a-long-name-of-many-letters.example.", [1, 2, 3, 4])];
    assert_eq!(answered(&asked, of(), |_| {}).unwrap().addresses.len(), 1);
    let wrong = |change: fn(&mut Message)| answered(&asked, of(), change).unwrap_err();
    assert_eq!(wrong(|m| m.metadata.id = 8), Wrong::Strange);
    assert_eq!(
        wrong(|m| m.metadata.message_type = MessageType::Query),
        Wrong::Strange
    );
    assert_eq!(
        wrong(|m| m.queries[0].query_type = RecordType::AAAA),
        Wrong::Strange
    );
    assert_eq!(
        wrong(|m| m.queries[0].name = Name::from_ascii("other.example.").unwrap()),
        Wrong::Strange
    );
    assert_eq!(wrong(|m| m.queries.clear()), Wrong::Strange);
    let lower = |m: &mut Message| m.queries[0].name = m.queries[0].name.to_lowercase();
    assert_eq!(wrong(lower), Wrong::Recased);
    assert_eq!(wrong(|m| m.metadata.truncation = true), Wrong::Truncated);
}

#[test]
fn only_what_was_asked_for_is_carried_on() {
    let asked = question("www.example.", RecordType::A);
    let alias = RData::CNAME(CNAME(name("edge.example.")));
    let text = TXT::new(vec!["out with it".to_owned()]);
    let records = vec![
        record("www.example.", alias),
        a("edge.example.", [1, 2, 3, 4]),
        a("stranger.example.", [6, 6, 6, 6]),
        record("www.example.", RData::TXT(text)),
    ];
    let answer = answered(&asked, records, |message| {
        message.add_additional(a("www.example.", [7, 7, 7, 7]));
        message.add_authority(a("www.example.", [8, 8, 8, 8]));
    })
    .unwrap();
    assert_eq!(answer.addresses, [IpAddr::from([1, 2, 3, 4])]);
    let reply = Message::from_vec(&asked.reply(&answer, false).unwrap()).unwrap();
    assert_eq!((reply.metadata.id, reply.answers.len()), (7, 2));
    assert!(reply.additionals.is_empty() && reply.authorities.is_empty());
}

#[test]
fn addresses_without_a_route_and_keys_that_hide_names_are_left_out() {
    let asked = question("www.example.", RecordType::AAAA);
    let six = || AAAA(Ipv6Addr::new(0x2606, 0, 0, 0, 0, 0, 0, 1));
    let record = |data| record("www.example.", data);
    let answer = answered(&asked, vec![record(RData::AAAA(six()))], |_| {}).unwrap();
    assert!(answer.addresses.is_empty());
    let asked = question("www.example.", RecordType::HTTPS);
    let service = |mandatory: Option<Mandatory>| {
        let mut parameters = vec![
            (
                SvcParamKey::Alpn,
                SvcParamValue::Alpn(Alpn(vec!["h2".into()])),
            ),
            (
                SvcParamKey::Ipv4Hint,
                SvcParamValue::Ipv4Hint(IpHint(vec![A(Ipv4Addr::new(10, 0, 0, 1))])),
            ),
            (
                SvcParamKey::EchConfigList,
                SvcParamValue::EchConfigList(EchConfigList(vec![1, 2, 3])),
            ),
            (
                SvcParamKey::Ipv6Hint,
                SvcParamValue::Ipv6Hint(IpHint(vec![six()])),
            ),
        ];
        if let Some(keys) = mandatory {
            parameters.insert(0, (SvcParamKey::Mandatory, SvcParamValue::Mandatory(keys)));
        }
        record(RData::HTTPS(HTTPS(SVCB::new(1, Name::root(), parameters))))
    };
    let answer = answered(&asked, vec![service(None)], |_| {}).unwrap();
    // A hint is an address like any other.
    assert_eq!(answer.addresses, [IpAddr::from([10, 0, 0, 1])]);
    let reply = Message::from_vec(&asked.reply(&answer, false).unwrap()).unwrap();
    let RData::HTTPS(HTTPS(told)) = &reply.answers[0].data else {
        panic!("{reply}");
    };
    let keys: Vec<_> = told.svc_params.iter().map(|(key, _)| *key).collect();
    assert_eq!(keys, [SvcParamKey::Alpn, SvcParamKey::Ipv4Hint]);
    let needs = Mandatory(vec![SvcParamKey::EchConfigList]);
    let answer = answered(&asked, vec![service(Some(needs))], |_| {}).unwrap();
    let reply = Message::from_vec(&asked.reply(&answer, false).unwrap()).unwrap();
    assert!(reply.answers.is_empty());
}

#[test]
fn what_does_not_fit_into_a_datagram_is_to_be_had_by_tcp() {
    let asked = question("www.example.", RecordType::A);
    let many = (0..100).map(|n| a("www.example.", [1, 2, 3, n])).collect();
    let answer = answered(&asked, many, |_| {}).unwrap();
    let short = asked.reply(&answer, false).unwrap();
    let read = Message::from_vec(&short).unwrap();
    assert!(short.len() <= 512 && read.metadata.truncation && read.answers.is_empty());
    let whole = Message::from_vec(&asked.reply(&answer, true).unwrap()).unwrap();
    assert_eq!(
        (whole.answers.len(), whole.metadata.truncation),
        (100, false)
    );
}

#[test]
fn a_refusal_says_why_to_whoever_reads_it() {
    let mut edns = Edns::new();
    edns.set_max_payload(1232);
    let bytes = asks("www.example.", RecordType::A, |message| {
        message.set_edns(edns);
    });
    let asked = Question::read(&bytes).unwrap();
    let reply = |no| Message::from_vec(&asked.refuse(no, false).unwrap()).unwrap();
    let refused = reply(No::Refused("not permitted"));
    assert_eq!(refused.metadata.response_code, ResponseCode::Refused);
    let option = EdnsOption::Unknown(15, b"\0\x12not permitted".to_vec());
    assert_eq!(refused.edns.unwrap().options().options[0].1, option);
    let none = reply(No::NoSuchName("not permitted"));
    assert_eq!(none.metadata.response_code, ResponseCode::NXDomain);
    assert_eq!(
        reply(No::Failed).metadata.response_code,
        ResponseCode::ServFail
    );
}
