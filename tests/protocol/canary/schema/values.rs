//! What masked cells hold: drawn from their names, so that each is another, the same at every run, and with
//! the same mask in both versions.

use crate::canary::random::Random;

/// A type of masked column, by what its values are made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Token,
    Email,
    Int,
    Big,
    Numeric,
    Float,
    Date,
    Stamp,
    Uuid,
    Bytes,
    Tags,
    Doc,
    Address,
    Mood,
    Letter,
    Span,
    Days,
    Ip,
    Page,
    Words,
    Spot,
}

/// A day after 2000-03-01.
#[derive(Clone, Copy, Debug)]
pub(in crate::canary) struct Date {
    pub(in crate::canary) year: u32,
    pub(in crate::canary) month: u32,
    pub(in crate::canary) day: u32,
}

impl Date {
    /// Days since 2000-01-01.
    pub(in crate::canary) fn days(self) -> i64 {
        // Years that begin in March have their leap day at the end.
        let before = u32::from(self.month < 3);
        let (year, month) = (self.year - before, (self.month + 9) % 12);
        let days =
            365 * year + year / 4 - year / 100 + year / 400 + (month * 153 + 2) / 5 + self.day;
        i64::from(days) - 730_426
    }
}

/// A time of a day.
#[derive(Clone, Debug)]
pub(in crate::canary) struct Stamp {
    pub(in crate::canary) date: Date,
    /// Hours, minutes, seconds and six digits.
    pub(in crate::canary) time: String,
}

impl Stamp {
    /// Since 2000-01-01.
    pub(in crate::canary) fn microseconds(&self) -> i64 {
        let part = |range: std::ops::Range<usize>| self.time[range].parse::<i64>().unwrap();
        let seconds = self.date.days() * 86_400 + part(0..2) * 3_600 + part(3..5) * 60 + part(6..8);
        seconds * 1_000_000 + part(9..15)
    }

    /// Seconds since 1970, with their fraction.
    pub(in crate::canary) fn epoch(&self) -> String {
        let micros = self.microseconds() + 946_684_800_000_000;
        format!("{}.{:06}", micros / 1_000_000, micros % 1_000_000)
    }
}

/// What a cell holds, or a part of it.
#[derive(Clone, Debug)]
pub(in crate::canary) enum Value {
    Token(String),
    Int(i32),
    Big(i64),
    Numeric(String),
    Float(f64),
    Date(Date),
    Stamp(Stamp),
    Uuid([u8; 16]),
    Bytes([u8; 16]),
    Ip([u8; 16]),
}

/// A masked cell, or a part of one.
#[derive(Clone, Debug)]
pub(in crate::canary) struct Cell {
    /// Table, column and row.
    pub(in crate::canary) name: String,
    pub(in crate::canary) value: Value,
}

/// Where the values of a cell come from: what its mask shows is the same in both versions.
pub(super) struct Draw {
    own: Random,
    shown: Random,
}

impl Draw {
    pub(super) fn of(table: &str, column: &str, row: usize, which: char) -> Self {
        let name = format!("{table}.{column}.{row}");
        Self {
            own: Random::of(&format!("{name}.{which}")),
            shown: Random::of(&name),
        }
    }

    /// A letter, a digit, and so on: nothing else reads like this. The first three and the last four are
    /// what masks may show.
    fn token(&mut self) -> String {
        let mut token = String::new();
        for at in 0..20 {
            let from = match at {
                3..16 => &mut self.own,
                _ => &mut self.shown,
            };
            let letter = match at % 2 {
                0 => b'g' + u8::try_from(from.below(20)).unwrap(),
                _ => b'2' + u8::try_from(from.below(8)).unwrap(),
            };
            token.push(char::from(letter.to_ascii_uppercase()));
        }
        token
    }

    fn date(&mut self) -> Date {
        let year = 2_130 + u32::try_from(self.shown.below(60)).unwrap();
        let mut part = |end: usize| 2 + u32::try_from(self.own.below(end)).unwrap();
        let (month, day) = (part(11), part(27));
        Date { year, month, day }
    }

    fn stamp(&mut self) -> Stamp {
        let date = self.date();
        let mut part = |end: usize| 10 + self.own.below(end);
        let clock = format!("{}:{}:{}", part(14), part(50), part(50));
        Stamp {
            date,
            time: format!("{clock}.{}", self.own.digits(6)),
        }
    }

    /// As SQL, and what of it is looked for.
    pub(super) fn value(&mut self, kind: Kind) -> (String, Vec<Value>) {
        let day = |date: Date| format!("{}-{:02}-{:02}", date.year, date.month, date.day);
        match kind {
            Kind::Token => {
                let token = self.token();
                (format!("'{token}'"), vec![Value::Token(token)])
            }
            Kind::Email => {
                let token = self.token();
                (format!("'{token}@example.com'"), vec![Value::Token(token)])
            }
            Kind::Int => {
                // Above what a mask by a hash can be.
                let number = format!("{}{}", 3 + self.own.below(7), self.own.digits(8));
                (number.clone(), vec![Value::Int(number.parse().unwrap())])
            }
            Kind::Big => {
                let number = self.own.digits(18);
                (number.clone(), vec![Value::Big(number.parse().unwrap())])
            }
            Kind::Numeric => {
                let number = format!("{}.{}", self.own.digits(20), self.own.digits(4));
                (number.clone(), vec![Value::Numeric(number)])
            }
            Kind::Float => {
                let number = self.float();
                (format!("{number}"), vec![Value::Float(number)])
            }
            Kind::Date => {
                let date = self.date();
                (format!("'{}'", day(date)), vec![Value::Date(date)])
            }
            Kind::Stamp => {
                let stamp = self.stamp();
                let text = format!("'{} {}+00'", day(stamp.date), stamp.time);
                (text, vec![Value::Stamp(stamp)])
            }
            Kind::Uuid => {
                let bytes = self.own.bytes();
                let text = uuid::Uuid::from_bytes(bytes);
                (format!("'{text}'"), vec![Value::Uuid(bytes)])
            }
            Kind::Bytes => {
                let bytes: [u8; 16] = self.own.bytes();
                let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
                (format!("'\\x{hex}'"), vec![Value::Bytes(bytes)])
            }
            Kind::Ip => {
                let bytes = self.own.bytes();
                let address = std::net::Ipv6Addr::from(bytes);
                (format!("'{address}'"), vec![Value::Ip(bytes)])
            }
            _ => self.composed(kind),
        }
    }

    fn float(&mut self) -> f64 {
        let text = format!("{}.{}", self.own.digits(7), self.own.digits(7));
        text.parse().unwrap()
    }

    fn composed(&mut self, kind: Kind) -> (String, Vec<Value>) {
        match kind {
            Kind::Tags => {
                let (one, other) = (self.token(), self.token());
                let sql = format!("ARRAY['{one}', '{other}']");
                (sql, vec![Value::Token(one), Value::Token(other)])
            }
            Kind::Doc => {
                let (token, number) = (self.token(), self.own.digits(18));
                let sql =
                    format!(r#"'{{"a": "{token}", "n": {number}, "l": [{{"b": "{token}"}}]}}'"#);
                let number = Value::Big(number.parse().unwrap());
                (sql, vec![Value::Token(token), number])
            }
            Kind::Address => {
                let number = format!("{}{}", 3 + self.own.below(7), self.own.digits(8));
                let token = self.token();
                let sql = format!("ROW('{token}', {number})::address");
                let number = Value::Int(number.parse().unwrap());
                (sql, vec![Value::Token(token), number])
            }
            Kind::Mood => {
                let mood = *self.own.pick(&["glad", "calm"]);
                (format!("'{mood}'"), Vec::new())
            }
            Kind::Letter => {
                let letter = char::from(b'A' + u8::try_from(self.own.below(26)).unwrap());
                (format!("'{letter}'"), Vec::new())
            }
            Kind::Span => {
                let low: i64 = self.own.digits(18).parse().unwrap();
                let high = low.checked_add(98_765).unwrap();
                let sql = format!("int8range({low}, {high})");
                (sql, vec![Value::Big(low), Value::Big(high)])
            }
            Kind::Days => {
                let low = self.date();
                let high = Date {
                    year: low.year + 1,
                    ..low
                };
                let text = |date: Date| format!("'{}-{}-{}'", date.year, date.month, date.day);
                let sql = format!("daterange({}, {})", text(low), text(high));
                (sql, vec![Value::Date(low), Value::Date(high)])
            }
            Kind::Page => {
                let token = self.token();
                (
                    format!("'<a b=\"{token}\">{token}</a>'"),
                    vec![Value::Token(token)],
                )
            }
            Kind::Words => {
                let (one, other) = (self.token(), self.token());
                let sql = format!("'{one}:1 {other}:2'");
                (sql, vec![Value::Token(one), Value::Token(other)])
            }
            _ => {
                let (x, y) = (self.float(), self.float());
                (
                    format!("point({x}, {y})"),
                    vec![Value::Float(x), Value::Float(y)],
                )
            }
        }
    }
}
