use super::*;
use proptest::prelude::*;

const NOW: u64 = 1_800_000_000;

fn keys() -> TokenKeys {
    TokenKeys::new(vec![
        TokenKey::new("new", &[7; 32]).unwrap(),
        TokenKey::new("old", b"an older secret of at least 32 bytes").unwrap(),
    ])
    .unwrap()
}

fn signed(header: &str, claims: &str, key: &TokenKey) -> String {
    let mut token = format!("{}.{}", URL_SAFE_NO_PAD.encode(header), URL_SAFE_NO_PAD.encode(claims));
    let mut mac = key.mac().clone();
    mac.update(token.as_bytes());
    token.push('.');
    token + &URL_SAFE_NO_PAD.encode(mac.finalize().into_bytes())
}

/// RFC 7515, appendix A.1: the published token, key and signature.
#[test]
fn rfc_7515_a_1() {
    const TOKEN: &str = "eyJ0eXAiOiJKV1QiLA0KICJhbGciOiJIUzI1NiJ9.\
        eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVlfQ.\
        dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk";
    const SECRET: &str =
        "AyM1SysPpbyDfgZld3umj1qzKObwVMkoqQ-EstJQLr_T-1qS0gZH75aKtMN3Yj0iPS4hcgUuTwjAzZr1Z9CAow";
    let key = TokenKey::new("a1", &URL_SAFE_NO_PAD.decode(SECRET).unwrap()).unwrap();
    let parts = take_apart(TOKEN).unwrap();
    assert_eq!(parts.header, b"{\"typ\":\"JWT\",\r\n \"alg\":\"HS256\"}");
    assert!(signature_holds(&key, &parts));
    let other = TokenKey::new("a1", &[1; 64]).unwrap();
    assert!(!signature_holds(&other, &parts));
    let keys = TokenKeys::new(vec![key]).unwrap();
    assert_eq!(keys.verify(TOKEN, 1_300_819_000, None), Err(TokenError::NoKey));
}

#[test]
fn mints_what_it_verifies() {
    let keys = keys();
    let token = keys.mint_user(u64::MAX, NOW, NOW + 60, None);
    assert_eq!(
        keys.verify(&token, NOW, None),
        Ok(Verified { speaker: Speaker::User(u64::MAX), expires_s: NOW + 60 })
    );
    let grant = GatewayGrant { name: "north".into(), submits_per_second: 5, ..GatewayGrant::default() };
    let token = keys.mint_gateway(&grant, NOW, NOW + 60, Some("me"));
    let verified = keys.verify(&token, NOW, Some("me")).unwrap();
    assert_eq!(verified.speaker, Speaker::Gateway(grant.into()));
    assert_eq!(keys.verify(&token, NOW, None), Err(TokenError::Audience("me".into())));
    assert_eq!(keys.verify(&token, NOW, Some("you")), Err(TokenError::Audience("me".into())));
}

#[test]
fn keys_rotate() {
    let both = keys();
    let old =
        TokenKeys::new(vec![TokenKey::new("old", b"an older secret of at least 32 bytes").unwrap()]).unwrap();
    let token = old.mint_user(1, NOW, NOW + 60, None);
    assert!(both.verify(&token, NOW, None).is_ok());
    let new = TokenKeys::new(vec![TokenKey::new("new", &[7; 32]).unwrap()]).unwrap();
    assert_eq!(new.verify(&token, NOW, None), Err(TokenError::UnknownKey("old".into())));
    let cell = KeyCell::new(both);
    let before = cell.version();
    cell.replace(new);
    assert!(cell.version() > before && cell.keys().ids().eq(["new"]));
    assert!(matches!(TokenKey::new("k", &[0; 31]), Err(KeyError::Short { bytes: 31, .. })));
    let twice = vec![TokenKey::new("k", &[0; 32]).unwrap(), TokenKey::new("k", &[1; 32]).unwrap()];
    assert!(matches!(TokenKeys::new(twice), Err(KeyError::Twice(_))));
    assert!(matches!(TokenKeys::new(vec![]), Err(KeyError::None)));
}

#[test]
fn every_fault_has_its_own_error() {
    let keys = keys();
    let key = keys.current();
    let claims = format!(r#"{{"sub":"5","iat":{NOW},"exp":{}}}"#, NOW + 60);
    let good = r#"{"alg":"HS256","typ":"JWT","kid":"new"}"#;
    let check = |header: &str, claims: &str| keys.verify(&signed(header, claims, key), NOW, None);
    assert!(check(good, &claims).is_ok());
    assert_eq!(check(r#"{"alg":"none","kid":"new"}"#, &claims), Err(TokenError::Algorithm("none".into())));
    assert_eq!(check(r#"{"alg":"HS512","kid":"new"}"#, &claims), Err(TokenError::Algorithm("HS512".into())));
    assert_eq!(check(r#"{"alg":"HS256","typ":"x","kid":"new"}"#, &claims), Err(TokenError::Type("x".into())));
    assert_eq!(check(r#"{"alg":"HS256","kid":"new","crit":["b64"]}"#, &claims), Err(TokenError::Critical));
    assert_eq!(check(r#"{"alg":"HS256","kid":"who"}"#, &claims), Err(TokenError::UnknownKey("who".into())));
    assert_eq!(check(r#"{"alg":"HS256"}"#, &claims), Err(TokenError::NoKey));
    assert!(matches!(check("[]x", &claims), Err(TokenError::Json { part: "header", .. })));
    assert!(matches!(check(good, "{}"), Err(TokenError::Json { part: "claims", .. })));
    let expired = keys.mint_user(5, NOW - 60, NOW, None);
    let error = keys.verify(&expired, NOW, None).unwrap_err();
    assert_eq!(error, TokenError::Expired { exp: NOW, now: NOW });
    assert_eq!(error.code(), Code::TokenExpired);
    let future = keys.mint_user(5, NOW + 61, NOW + 100, None);
    assert!(matches!(keys.verify(&future, NOW, None), Err(TokenError::NotYet { .. })));
    for sub in ["", "0", "01", "+1", "-1", " 1", "1x", "18446744073709551616"] {
        let claims = format!(r#"{{"sub":"{sub}","iat":{NOW},"exp":{}}}"#, NOW + 60);
        assert!(matches!(check(good, &claims), Err(TokenError::Claims(_))), "{sub:?}");
    }
    assert!(matches!(check(good, &format!(r#"{{"iat":1,"exp":{}}}"#, NOW + 1)), Err(TokenError::Claims(_))));
    let both = format!(r#"{{"sub":"1","gw":"g","iat":1,"exp":{}}}"#, NOW + 1);
    assert!(matches!(check(good, &both), Err(TokenError::Claims(_))));
    assert_eq!(keys.verify("a.b", NOW, None), Err(TokenError::Parts(2)));
    assert_eq!(keys.verify("a.b.c.d", NOW, None), Err(TokenError::Parts(4)));
    assert_eq!(keys.verify("!.b.c", NOW, None), Err(TokenError::Base64("header")));
    assert_eq!(keys.verify(&"x".repeat(3000), NOW, None), Err(TokenError::TooLong(3000)));
}

proptest! {
    /// No single changed character leaves a token good: in the signature's last character unused bits must be
    /// zero, so even that has one spelling.
    #[test]
    fn one_changed_character_is_noticed(user in 1u64.., at in 0usize..200, with in "[A-Za-z0-9_.-]") {
        let keys = keys();
        let token = keys.mint_user(user, NOW, NOW + 60, None);
        let at = at % token.len();
        let changed = format!("{}{with}{}", &token[..at], &token[at + 1..]);
        prop_assume!(changed != token);
        prop_assert!(keys.verify(&changed, NOW, None).is_err());
    }

    #[test]
    fn never_panics(text in "\\PC{0,100}") {
        let _ = keys().verify(&text, NOW, None);
    }
}
