//! Numbers that states give to people and companies: the shapes that are digits, and their checks.

use super::kind::Kind;
use super::number::{Shape, luhn};

/// Those that begin with digits.
pub(super) static SHAPES: &[Shape] = &[
    Shape::new(Kind::FrNir, "9 99 99 9B 999 999 99", fr_nir),
    Shape::new(Kind::FrNir, "999999B99999999", fr_nir),
    Shape::new(Kind::FrNir, "999999999999999", fr_nir),
    Shape::new(Kind::BrCnpj, "99.999.999/9999-99", br_cnpj),
    Shape::new(Kind::BrCnpj, "99999999999999", br_cnpj),
    Shape::new(Kind::CnRin, "99999999999999999X", cn_rin),
    Shape::new(Kind::CnRin, "999999999999999999", cn_rin),
    Shape::new(Kind::ChAhv, "756.9999.9999.99", ch_ahv),
    Shape::new(Kind::ChAhv, "7569999999999", ch_ahv),
    Shape::new(Kind::DeIdnr, "99 999 999 999", de_idnr),
    Shape::new(Kind::DeIdnr, "99999999999", de_idnr),
    Shape::new(Kind::PlPesel, "99999999999", pl_pesel),
    Shape::new(Kind::BrCpf, "999.999.999-99", br_cpf),
    Shape::new(Kind::BrCpf, "99999999999", br_cpf),
    Shape::new(Kind::BeNrn, "99.99.99-999.99", be_nrn),
    Shape::new(Kind::BeNrn, "99999999999", be_nrn),
    Shape::new(Kind::TrTckn, "99999999999", tr_tckn),
    Shape::new(Kind::InAadhaar, "9999 9999 9999", in_aadhaar),
    Shape::new(Kind::InAadhaar, "999999999999", in_aadhaar),
    Shape::new(Kind::UsSsn, "999 99 9999", us_ssn),
    Shape::new(Kind::EsDni, "99999999A", es_dni),
    Shape::new(Kind::EsDni, "99999999-A", es_dni),
    Shape::new(Kind::SePnr, "999999-9999", se_pnr),
    Shape::new(Kind::SePnr, "99999999-9999", se_pnr),
    Shape::new(Kind::CaSin, "999-999-999", ca_sin),
];

fn number(digits: &[u8]) -> u64 {
    digits
        .iter()
        .fold(0, |number, digit| number * 10 + u64::from(*digit))
}

fn weighted(digits: &[u8], weights: &[u32]) -> u32 {
    let pairs = digits.iter().zip(weights);
    pairs
        .map(|(digit, weight)| u32::from(*digit) * weight)
        .sum()
}

fn digit(digits: &[u8], place: usize) -> u32 {
    digits.get(place).copied().map_or(u32::MAX, u32::from)
}

fn all_same(digits: &[u8]) -> bool {
    digits
        .windows(2)
        .all(|pair| matches!(pair, [one, other] if one == other))
}

fn is_day(month: u64, day: u64) -> bool {
    (1..=12).contains(&month) && (1..=31).contains(&day)
}

/// Sex, year, month, place, order; the key is what 97 lacks.
fn fr_nir(digits: &[u8]) -> bool {
    let (Some(front), Some(key)) = (digits.get(..13), digits.get(13..)) else {
        return false;
    };
    // Corsica's departments are 2A and 2B.
    let (mut plain, mut less) = ([0; 13], 0);
    plain.copy_from_slice(front);
    if let Some(place) = plain.get_mut(6) {
        match *place {
            10 => (*place, less) = (0, 1_000_000),
            11 => (*place, less) = (0, 2_000_000),
            _ => {}
        }
        if less > 0 && digits.get(5) != Some(&2) {
            return false;
        }
    }
    let sex = digit(digits, 0);
    let month = number(digits.get(3..5).unwrap_or_default());
    let known = matches!(month, 1..=12 | 20..=42 | 50..=99) && matches!(sex, 1 | 2);
    let counted = number(&plain).saturating_sub(less);
    known && 97 - counted % 97 == number(key)
}

fn br_cnpj(digits: &[u8]) -> bool {
    const WEIGHTS: [u32; 13] = [6, 5, 4, 3, 2, 9, 8, 7, 6, 5, 4, 3, 2];
    let check = |weights: &[u32]| match weighted(digits, weights) % 11 {
        0 | 1 => 0,
        rest => 11 - rest,
    };
    let (_, first) = WEIGHTS.split_at(1);
    !all_same(digits) && digit(digits, 12) == check(first) && digit(digits, 13) == check(&WEIGHTS)
}

fn br_cpf(digits: &[u8]) -> bool {
    const WEIGHTS: [u32; 10] = [11, 10, 9, 8, 7, 6, 5, 4, 3, 2];
    let check = |weights: &[u32]| weighted(digits, weights) * 10 % 11 % 10;
    let (_, first) = WEIGHTS.split_at(1);
    !all_same(digits) && digit(digits, 9) == check(first) && digit(digits, 10) == check(&WEIGHTS)
}

/// ISO 7064 MOD 11-2 (GB 11643).
fn cn_rin(digits: &[u8]) -> bool {
    const WEIGHTS: [u32; 17] = [7, 9, 10, 5, 8, 4, 2, 1, 6, 3, 7, 9, 10, 5, 8, 4, 2];
    let year = number(digits.get(6..10).unwrap_or_default());
    let month = number(digits.get(10..12).unwrap_or_default());
    let day = number(digits.get(12..14).unwrap_or_default());
    let check = (12 - weighted(digits, &WEIGHTS) % 11) % 11;
    // An X stands for ten, and is the letter's value here.
    let last = match digit(digits, 17) {
        33 => 10,
        last => last,
    };
    (1900..=2099).contains(&year) && is_day(month, day) && last == check
}

/// EAN-13 with the country's number in front.
fn ch_ahv(digits: &[u8]) -> bool {
    const WEIGHTS: [u32; 13] = [1, 3, 1, 3, 1, 3, 1, 3, 1, 3, 1, 3, 1];
    weighted(digits, &WEIGHTS).is_multiple_of(10)
}

/// One digit of the first ten stands twice or three times; ISO 7064 MOD 11,10.
fn de_idnr(digits: &[u8]) -> bool {
    let Some(front) = digits.get(..10) else {
        return false;
    };
    let mut counts = [0_u8; 10];
    for digit in front {
        if let Some(count) = counts.get_mut(usize::from(*digit)) {
            *count += 1;
        }
    }
    let repeated = counts.iter().filter(|count| **count > 1).count();
    let most = counts.iter().max().copied().unwrap_or(0);
    let product = front.iter().fold(10, |product, digit| {
        let sum = (u32::from(*digit) + product) % 10;
        (if sum == 0 { 10 } else { sum }) * 2 % 11
    });
    let check = (11 - product) % 10;
    digit(digits, 0) != 0 && repeated == 1 && most <= 3 && digit(digits, 10) == check
}

/// A birthday, with the century in the month.
fn pl_pesel(digits: &[u8]) -> bool {
    const WEIGHTS: [u32; 11] = [1, 3, 7, 9, 1, 3, 7, 9, 1, 3, 1];
    let month = number(digits.get(2..4).unwrap_or_default());
    let day = number(digits.get(4..6).unwrap_or_default());
    is_day(month % 20, day) && weighted(digits, &WEIGHTS).is_multiple_of(10)
}

fn be_nrn(digits: &[u8]) -> bool {
    let (Some(front), Some(key)) = (digits.get(..9), digits.get(9..)) else {
        return false;
    };
    let month = number(digits.get(2..4).unwrap_or_default());
    let day = number(digits.get(4..6).unwrap_or_default());
    let front = number(front);
    let checks = [97 - front % 97, 97 - (2_000_000_000 + front) % 97];
    is_day(month, day) && checks.contains(&number(key))
}

fn tr_tckn(digits: &[u8]) -> bool {
    let at = |place| digit(digits, place);
    let odd = at(0) + at(2) + at(4) + at(6) + at(8);
    let even = at(1) + at(3) + at(5) + at(7);
    at(0) != 0 && (odd * 7 + 90 - even) % 10 == at(9) && (odd + even + at(9)) % 10 == at(10)
}

/// Verhoeff's check over the dihedral group of ten.
fn in_aadhaar(digits: &[u8]) -> bool {
    let multiply = |a: u8, b: u8| match (a < 5, b < 5) {
        (true, true) => (a + b) % 5,
        (true, false) => (a + b - 5) % 5 + 5,
        (false, true) => (a + 5 - b) % 5 + 5,
        (false, false) => (a + 5 - b) % 5,
    };
    const PERMUTATION: [u8; 10] = [1, 5, 7, 6, 2, 8, 3, 0, 9, 4];
    let permute = |digit: u8, times: usize| {
        (0..times % 8).fold(digit, |digit, _| {
            PERMUTATION.get(usize::from(digit)).copied().unwrap_or(0)
        })
    };
    let sum = digits
        .iter()
        .rev()
        .enumerate()
        .fold(0, |sum, (index, digit)| {
            multiply(sum, permute(*digit, index))
        });
    digit(digits, 0) > 1 && sum == 0 && !all_same(digits)
}

/// No checksum, but areas, groups and serial numbers that are never given out.
fn us_ssn(digits: &[u8]) -> bool {
    let area = number(digits.get(..3).unwrap_or_default());
    let group = number(digits.get(3..5).unwrap_or_default());
    let serial = number(digits.get(5..).unwrap_or_default());
    (1..900).contains(&area) && area != 666 && group != 0 && serial != 0
}

/// The letter is the number's rest by 23.
pub(super) fn es_dni(digits: &[u8]) -> bool {
    const LETTERS: &[u8; 23] = b"TRWAGMYFPDXBNJZSQVHLCKE";
    let (Some(front), Some(letter)) = (digits.get(..8), digits.get(8)) else {
        return false;
    };
    let wanted = usize::try_from(number(front) % 23).unwrap_or(0);
    LETTERS.get(wanted).map(|wanted| wanted - b'A' + 10) == Some(*letter)
}

fn se_pnr(digits: &[u8]) -> bool {
    let digits = match digits.len() {
        12 if !matches!(digits.get(..2), Some([1, 8 | 9] | [2, 0])) => return false,
        12 => digits.get(2..).unwrap_or_default(),
        _ => digits,
    };
    let month = number(digits.get(2..4).unwrap_or_default());
    let day = number(digits.get(4..6).unwrap_or_default());
    // Whoever has none yet gets a day that is 60 more.
    is_day(month, if day > 60 { day - 60 } else { day }) && luhn(digits)
}

fn ca_sin(digits: &[u8]) -> bool {
    !matches!(digit(digits, 0), 0 | 8) && luhn(digits)
}
