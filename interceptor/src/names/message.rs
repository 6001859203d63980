//! Messages of DNS: a question as it may be asked, an answer as it may be believed.
//!
//! What goes upstream is made anew from the name and the type alone, and what comes back is taken apart
//! and put together again: nothing that either side adds is carried on.

use std::net::IpAddr;
use std::str::FromStr as _;

use hickory_proto::op::{Edns, Message, MessageType, OpCode, Query, ResponseCode};
use hickory_proto::rr::rdata::opt::EdnsOption;
use hickory_proto::rr::rdata::svcb::{SVCB, SvcParamKey, SvcParamValue};
use hickory_proto::rr::{DNSClass, Name, RData, Record, RecordType};

/// Longest question that is read: a name, and a few options of EDNS that are ignored.
pub const MOST_ASKED: usize = 1024;
/// What fits into a datagram without EDNS (RFC 1035 section 4.2.1).
const PLAIN: u16 = 512;
/// What fits into one that no network takes apart (DNS Flag Day 2020).
const WHOLE: u16 = 1232;
/// Records of one answer that are carried on.
const MOST_RECORDS: usize = 128;
/// Aliases of one answer that are followed.
const MOST_ALIASES: usize = 16;
/// How long an answer may be kept, in seconds.
const LONGEST: u32 = 3600;
/// Extended DNS error (RFC 8914): its option, and the code `Prohibited`.
const EXTENDED: u16 = 15;
const PROHIBITED: u16 = 18;

/// Whether a text names a type of records that a question may be about.
#[must_use]
pub fn is_type(text: &str) -> bool {
    let kind = RecordType::from_str(&text.to_ascii_uppercase());
    kind.is_ok_and(|kind| {
        !matches!(
            kind,
            RecordType::ANY
                | RecordType::AXFR
                | RecordType::IXFR
                | RecordType::OPT
                | RecordType::TSIG
        )
    })
}

/// One question of a client.
#[derive(Clone, Debug)]
pub struct Question {
    id: u16,
    asked: Query,
    recursion: bool,
    /// What the client's datagrams may hold, where it speaks EDNS.
    edns: Option<u16>,
    /// Lower case, without the root's dot.
    pub name: String,
    /// The type of the records.
    pub qtype: String,
}

/// Bytes that are no question that can be asked.
#[derive(Debug)]
pub struct Malformed {
    /// What is answered, where it is a question at all.
    pub reply: Option<Vec<u8>>,
}

/// What is answered instead of what was asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum No<'a> {
    /// Refused, with words for people.
    Refused(&'a str),
    /// There is no such name; with words for people.
    NoSuchName(&'a str),
    /// It could not be answered.
    Failed,
}

/// Why an answer is not believed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wrong {
    /// Not the answer to this question: somebody else's, or a forged one.
    Strange,
    /// The server answers names in other letters than it was asked in.
    Recased,
    /// More of it is to be had by TCP.
    Truncated,
}

/// What may be carried on of an answer.
#[derive(Clone, Debug)]
pub struct Answer {
    code: ResponseCode,
    records: Vec<Record>,
    authority: Vec<Record>,
    /// Every address in it, those of hints too.
    pub addresses: Vec<IpAddr>,
    /// Seconds for which the shortest-lived of its records may be kept.
    pub ttl: u32,
}

impl Question {
    /// Reads a question: one, of class IN, with nothing beside it.
    ///
    /// # Errors
    /// Where it is none, or one with a name that rules could not tell from another.
    pub fn read(bytes: &[u8]) -> Result<Self, Malformed> {
        let silent = |_error| Malformed { reply: None };
        let message = Message::from_vec(bytes).map_err(silent)?;
        let about = message.metadata;
        if about.message_type != MessageType::Query {
            return Err(Malformed { reply: None });
        }
        let fail = |code| {
            let mut reply = Message::error_msg(about.id, about.op_code, code);
            reply.add_queries(message.queries.iter().cloned());
            let reply = reply.to_vec().ok();
            Malformed { reply }
        };
        if about.op_code != OpCode::Query {
            return Err(fail(ResponseCode::NotImp));
        }
        let beside = [&message.answers, &message.authorities, &message.additionals];
        let [asked] = message.queries.as_slice() else {
            return Err(fail(ResponseCode::FormErr));
        };
        if bytes.len() > MOST_ASKED || beside.iter().any(|records| !records.is_empty()) {
            return Err(fail(ResponseCode::FormErr));
        }
        let name = text_of(asked.name()).ok_or_else(|| fail(ResponseCode::Refused))?;
        if asked.query_class() != DNSClass::IN {
            return Err(fail(ResponseCode::Refused));
        }
        let edns = message.edns.as_ref();
        Ok(Self {
            id: about.id,
            recursion: about.recursion_desired,
            edns: edns.map(|edns| edns.max_payload().clamp(PLAIN, WHOLE)),
            name,
            qtype: asked.query_type().to_string(),
            asked: asked.clone(),
        })
    }

    /// The question as it goes upstream: anew, and where it goes by datagram with letters of random case
    /// that the answer must repeat. None where it cannot be written.
    #[must_use]
    pub fn ask(&self, id: u16, by_datagram: bool) -> Option<(Vec<u8>, Query)> {
        let mut name = self.asked.name().to_lowercase();
        if by_datagram {
            name.randomize_label_case();
        }
        let query = Query::query(name, self.asked.query_type());
        let mut message = Message::new(id, MessageType::Query, OpCode::Query);
        message.metadata.recursion_desired = true;
        message.add_query(query.clone());
        let mut edns = Edns::new();
        edns.set_max_payload(WHOLE);
        message.set_edns(edns);
        Some((message.to_vec().ok()?, query))
    }

    /// An answer as the client takes it; `whole` where it comes by TCP.
    #[must_use]
    pub fn reply(&self, answer: &Answer, whole: bool) -> Option<Vec<u8>> {
        let mut message = self.begin(answer.code);
        message.add_answers(answer.records.iter().cloned());
        message.add_authorities(answer.authority.iter().cloned());
        self.finish(message, whole)
    }

    /// What is said instead of an answer.
    #[must_use]
    pub fn refuse(&self, no: No<'_>, whole: bool) -> Option<Vec<u8>> {
        let (code, words) = match no {
            No::Refused(words) => (ResponseCode::Refused, Some(words)),
            No::NoSuchName(words) => (ResponseCode::NXDomain, Some(words)),
            No::Failed => (ResponseCode::ServFail, None),
        };
        let mut message = self.begin(code);
        if let (Some(words), Some(edns)) = (words, &mut message.edns) {
            let mut data = PROHIBITED.to_be_bytes().to_vec();
            data.extend(words.bytes().take(200));
            let option = EdnsOption::Unknown(EXTENDED, data);
            edns.options_mut().insert(option);
        }
        self.finish(message, whole)
    }

    fn begin(&self, code: ResponseCode) -> Message {
        let mut message = Message::response(self.id, OpCode::Query);
        message.metadata.recursion_desired = self.recursion;
        message.metadata.recursion_available = true;
        message.metadata.response_code = code;
        message.add_query(self.asked.clone());
        if self.edns.is_some() {
            let mut edns = Edns::new();
            edns.set_max_payload(WHOLE);
            message.set_edns(edns);
        }
        message
    }

    fn finish(&self, message: Message, whole: bool) -> Option<Vec<u8>> {
        let bytes = message.to_vec().ok()?;
        let most = if whole {
            usize::from(u16::MAX)
        } else {
            usize::from(self.edns.unwrap_or(PLAIN))
        };
        if bytes.len() <= most {
            return Some(bytes);
        }
        let mut short = self.begin(message.metadata.response_code);
        short.metadata.truncation = true;
        short.to_vec().ok()
    }

    /// Takes what may be carried on of an answer to `query`: what was asked for under the names that it
    /// leads to. IPv6 addresses that `reaches` says no of are left out, and so are the keys by which a
    /// client would hide a server's name from us.
    ///
    /// # Errors
    /// Where it is not the answer to this question, or not all of it.
    pub fn sift(
        &self,
        bytes: &[u8],
        (id, query): (u16, &Query),
        reaches: impl Fn(IpAddr) -> bool,
    ) -> Result<Answer, Wrong> {
        let message = Message::from_vec(bytes).map_err(|_unreadable| Wrong::Strange)?;
        let about = message.metadata;
        let [answered] = message.queries.as_slice() else {
            return Err(Wrong::Strange);
        };
        if about.id != id
            || about.message_type != MessageType::Response
            || about.op_code != OpCode::Query
            || answered.query_type() != query.query_type()
            || answered.query_class() != DNSClass::IN
            || !same(answered.name(), query.name())
        {
            return Err(Wrong::Strange);
        }
        if !answered.name().eq_case(query.name()) {
            return Err(Wrong::Recased);
        }
        if about.truncation {
            return Err(Wrong::Truncated);
        }
        let mut answer = Answer {
            code: about.response_code,
            records: Vec::new(),
            authority: Vec::new(),
            addresses: Vec::new(),
            ttl: LONGEST,
        };
        let wanted = query.query_type();
        let mut owners = vec![self.asked.name().to_lowercase()];
        for mut record in message.answers.into_iter().take(MOST_RECORDS) {
            let owned = owners.iter().any(|owner| same(owner, &record.name));
            if record.dns_class != DNSClass::IN || !owned {
                continue;
            }
            if let RData::CNAME(alias) = &record.data
                && owners.len() < MOST_ALIASES
            {
                owners.push(alias.0.to_lowercase());
            }
            let kind = record.record_type();
            if (kind == wanted || kind == RecordType::CNAME) && answer.takes(&mut record, &reaches)
            {
                answer.records.push(record);
            }
        }
        // How long "no" may be kept (RFC 2308).
        let soa = |record: &Record| record.record_type() == RecordType::SOA;
        let soa = message.authorities.into_iter().find(soa);
        answer.authority.extend(soa);
        Ok(answer)
    }
}

impl Answer {
    /// Notes what a record leads to; false for one that is left out.
    fn takes(&mut self, record: &mut Record, reaches: &impl Fn(IpAddr) -> bool) -> bool {
        match &mut record.data {
            RData::A(address) => self.addresses.push(address.0.into()),
            RData::AAAA(address) if !reaches(address.0.into()) => return false,
            RData::AAAA(address) => self.addresses.push(address.0.into()),
            RData::HTTPS(binding) => {
                if !self.service(&mut binding.0, reaches) {
                    return false;
                }
            }
            RData::SVCB(binding) => {
                if !self.service(binding, reaches) {
                    return false;
                }
            }
            _ => {}
        }
        record.ttl = record.ttl.min(LONGEST);
        self.ttl = self.ttl.min(record.ttl);
        true
    }

    /// Takes the keys out of a service's binding; false where it cannot do without them.
    fn service(&mut self, binding: &mut SVCB, reaches: &impl Fn(IpAddr) -> bool) -> bool {
        let mut fine = true;
        binding.svc_params.retain_mut(|(key, value)| match value {
            SvcParamValue::EchConfigList(_) => false,
            SvcParamValue::Mandatory(keys) => {
                fine &= !keys.0.contains(&SvcParamKey::EchConfigList);
                true
            }
            SvcParamValue::Ipv4Hint(hints) => {
                self.addresses
                    .extend(hints.0.iter().map(|hint| IpAddr::from(hint.0)));
                true
            }
            SvcParamValue::Ipv6Hint(hints) => {
                hints.0.retain(|hint| reaches(hint.0.into()));
                self.addresses
                    .extend(hints.0.iter().map(|hint| IpAddr::from(hint.0)));
                !hints.0.is_empty()
            }
            _ => *key != SvcParamKey::EchConfigList,
        });
        fine
    }

    /// Its code, as the audit names it.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self.code {
            ResponseCode::NoError => "ok",
            ResponseCode::NXDomain => "nxdomain",
            ResponseCode::ServFail => "servfail",
            ResponseCode::Refused => "refused",
            _ => "error",
        }
    }
}

fn same(one: &Name, other: &Name) -> bool {
    one.eq_ignore_root(other)
}

/// A name as text, where no other name has the same one.
fn text_of(name: &Name) -> Option<String> {
    let labels: Option<Vec<String>> = name
        .iter()
        .map(|label| {
            let fine = |c: &u8| c.is_ascii_alphanumeric() || matches!(c, b'-' | b'_');
            let text = label.iter().all(fine).then_some(label)?;
            let text = std::str::from_utf8(text).ok()?;
            Some(text.to_ascii_lowercase())
        })
        .collect();
    labels
        .filter(|labels| !labels.is_empty())
        .map(|labels| labels.join("."))
}

#[cfg(test)]
mod tests;
