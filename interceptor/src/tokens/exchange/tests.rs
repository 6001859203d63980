//! Tokens of the daemon's own: good in one scope, for one tree, once.

use super::*;
use crate::grants::Root;
use crate::tokens::tests::identity;

fn holder(scope: u64, pid: u32) -> Holder {
    Holder {
        agent: "claude".to_owned(),
        scope,
        cgroup: format!("/a/{scope}"),
        root: Some(Root {
            pid,
            started: BootTime(7),
            sha256: "00".to_owned(),
        }),
    }
}

fn soon() -> BootTime {
    clock::boot().after(Duration::from_secs(300))
}

fn minted(mint: &Mint, time: u64, ends: BootTime) -> Minted {
    let time = Duration::from_secs(time);
    let signed = mint.sign(
        &identity("jane"),
        &holder(1, 9),
        mint.issuer(),
        (time, ends),
    );
    signed.unwrap()
}

#[test]
fn a_token_says_whose_it_is_and_is_good_where_it_was_given_out() {
    let mint = Mint::new(&[7; 32]).unwrap();
    let minted = minted(&mint, 60, soon());
    assert_eq!(minted.good_for, Duration::from_secs(60));
    let behalf = mint.verify(&minted.token, &holder(1, 9)).unwrap();
    assert_eq!(behalf.identity.subject, "jane");
    assert_eq!(behalf.identity.expires, minted.expires);
    let left = behalf.until.since(clock::boot());
    assert!(left <= Duration::from_secs(60), "{left:?}");
    // Anybody who has the published key can hold it against that.
    let keys = serde_json::to_vec(&mint.keys()).unwrap();
    let keys = crate::tokens::keys::Keys::read(&keys).unwrap();
    let read = Unproved::read(&minted.token).unwrap();
    let key = keys.find(read.key.as_deref(), Algorithm::EdDsa).unwrap();
    let signed = (read.signed, read.signature);
    assert!(crate::tokens::keys::is_signed(
        key,
        Algorithm::EdDsa,
        signed
    ));
    assert_eq!(read.claims["act"], json!({ "sub": "claude" }));
    // The same key signs after a restart, another one does not.
    Mint::new(&[7; 32])
        .unwrap()
        .verify(&minted.token, &holder(1, 9))
        .unwrap();
    let other = Mint::new(&[8; 32])
        .unwrap()
        .verify(&minted.token, &holder(1, 9));
    assert_eq!(other.unwrap_err().reason(), "issuer");
}

#[test]
fn a_token_lasts_no_longer_than_what_it_was_made_of() {
    let mint = Mint::new(&[7; 32]).unwrap();
    assert!(minted(&mint, 86_400, soon()).good_for <= Duration::from_secs(300));
    let day = clock::boot().after(Duration::from_secs(86_400));
    assert_eq!(minted(&mint, 86_400, day).good_for, LONGEST);
    let over = (Duration::from_secs(60), clock::boot());
    let error = mint.sign(&identity("jane"), &holder(1, 9), mint.issuer(), over);
    assert_eq!(error.unwrap_err().reason(), "expired");
}

#[test]
fn what_is_for_a_whole_scope_is_good_for_each_tree_of_it() {
    let mint = Mint::new(&[7; 32]).unwrap();
    let whole = Holder {
        root: None,
        ..holder(1, 9)
    };
    let minute = (Duration::from_secs(60), soon());
    let minted = mint.sign(&identity("jane"), &whole, mint.issuer(), minute);
    let token = minted.unwrap().token;
    for brings in [holder(1, 9), holder(1, 10), whole] {
        mint.verify(&token, &brings).unwrap();
    }
    let other_agent = Holder {
        agent: "ci".to_owned(),
        ..holder(1, 9)
    };
    for brings in [holder(2, 9), other_agent] {
        let error = mint.verify(&token, &brings).unwrap_err();
        assert_eq!(error.reason(), "elsewhere");
    }
}

#[test]
fn another_scope_tree_audience_or_text_is_refused() {
    let mint = Mint::new(&[7; 32]).unwrap();
    let good = minted(&mint, 60, soon()).token;
    let at = |holder: &Holder, token: &str| mint.verify(token, holder).unwrap_err().reason();
    assert_eq!(at(&holder(2, 9), &good), "elsewhere");
    assert_eq!(at(&holder(1, 10), &good), "elsewhere");
    let whole = Holder {
        root: None,
        ..holder(1, 9)
    };
    assert_eq!(at(&whole, &good), "elsewhere");
    let other = Holder {
        agent: "ci".to_owned(),
        ..holder(1, 9)
    };
    assert_eq!(at(&other, &good), "elsewhere");
    let time = (Duration::from_secs(60), soon());
    let for_others = mint.sign(&identity("jane"), &holder(1, 9), "others", time);
    assert_eq!(at(&holder(1, 9), &for_others.unwrap().token), "audience");
    let (head, signature) = good.rsplit_once('.').unwrap();
    let (header, claims) = head.split_once('.').unwrap();
    let claims = URL_SAFE_NO_PAD.decode(claims).unwrap();
    let forged = String::from_utf8(claims).unwrap().replace("jane", "root");
    let forged = format!("{header}.{}.{signature}", URL_SAFE_NO_PAD.encode(forged));
    assert_eq!(at(&holder(1, 9), &forged), "signature");
    assert_eq!(at(&holder(1, 9), &format!("{head}.")), "signature");
    // One that is over by the clock that nobody sets, whatever the other one says.
    let now = clock::wall();
    let parts = ("name", clock::boot(), now, now.as_second() + 60);
    let over = mint.text(&identity("jane"), &holder(1, 9), mint.issuer(), parts);
    let over = over.unwrap();
    assert_eq!(at(&holder(1, 9), &over), "expired");
}

#[tokio::test]
async fn a_token_is_used_up_by_its_first_use_also_across_a_restart() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("i.db");
    let mint = Mint::new(&[7; 32]).unwrap();
    let behalf = mint
        .verify(&minted(&mint, 60, soon()).token, &holder(1, 9))
        .unwrap();
    let tokens = Tokens::open(&file).unwrap();
    tokens.spend(&behalf).await.unwrap();
    assert_eq!(tokens.spend(&behalf).await.unwrap_err(), Error::Replayed);
    drop(tokens);
    let tokens = Tokens::open(&file).unwrap();
    assert_eq!(tokens.spend(&behalf).await.unwrap_err(), Error::Replayed);
    // What it was made of may be exchanged again, for the same scope.
    let ends = clock::wall();
    let subject = ("https://idp.example", "t1");
    let use_up = async |scope| tokens.bindings.use_up(subject, scope, ends, false).await;
    use_up(1).await.unwrap();
    use_up(1).await.unwrap();
    assert_eq!(use_up(2).await.unwrap_err(), Error::Replayed);
}
