//! Cached keys: only proved ones, and boundedly many.

use super::*;

fn iterations(count: u32) -> NonZeroU32 {
    NonZeroU32::new(count).unwrap()
}

#[tokio::test]
async fn keys_are_kept_only_once_a_server_has_proved_them() {
    let cache = Cache::new().unwrap();
    let password = Secret::from("pencil");
    let (id, first) = cache
        .keys("u", &password, b"salt", iterations(4_096))
        .await
        .unwrap();
    assert_eq!(cache.count(), 0);
    cache.keep(id, Arc::clone(&first));
    let (_, again) = cache
        .keys("u", &password, b"salt", iterations(4_096))
        .await
        .unwrap();
    assert!(Arc::ptr_eq(&first, &again));

    let rotated = Secret::from("pencil2");
    let rows = [
        ("v", &password, &b"salt"[..], 4_096),
        ("u", &rotated, b"salt", 4_096),
        ("u", &password, b"salt2", 4_096),
        ("u", &password, b"salt", 4_097),
        ("up", &Secret::from("encil"), b"salt", 4_096),
    ];
    for (user, password, salt, count) in rows {
        let (_, other) = cache
            .keys(user, password, salt, iterations(count))
            .await
            .unwrap();
        assert!(!Arc::ptr_eq(&first, &other), "{user} {salt:?} {count}");
    }
    assert_eq!(cache.count(), 1);
}

#[tokio::test]
async fn the_number_of_keys_is_bounded() {
    let cache = Cache::new().unwrap();
    let password = Secret::from("pencil");
    let (_, keys) = cache
        .keys("u", &password, b"salt", iterations(4_096))
        .await
        .unwrap();
    for n in 0..KEPT_MAX.get() + 10 {
        let id = cache.id(&n.to_string(), &password, b"salt", iterations(4_096));
        cache.keep(id, Arc::clone(&keys));
    }
    assert_eq!(cache.count(), KEPT_MAX.get());
}
