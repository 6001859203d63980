//! A reload takes whole or not at all.

use super::*;

#[test]
fn a_bad_file_keeps_the_old_policy_and_a_good_one_waits_to_be_put() {
    let dir = tempfile::tempdir().unwrap();
    let write = |text: &str| std::fs::write(dir.path().join("a.cedar"), text).unwrap();
    write("@id(\"one\") permit(principal is Agent, action, resource);");
    let handle = Handle::load(dir.path()).unwrap();
    assert_eq!(handle.generation(), Generation(1));

    write("@id(\"two\") permit(principal is Agent, action, resource");
    let mistakes = handle.read(dir.path()).unwrap_err();
    assert_eq!(mistakes.0.len(), 1, "{mistakes}");

    write("@id(\"two\") permit(principal is Agent, action, resource);");
    let policy = handle.read(dir.path()).unwrap();
    let late = handle.read(dir.path()).unwrap();
    assert_eq!(handle.generation(), Generation(1));
    assert_eq!(handle.current().rules()[0].id.0, "one");

    handle.put(policy);
    assert_eq!(handle.generation(), Generation(2));
    let current = handle.current();
    assert_eq!(current.rules()[0].id.0, "two");

    // Read at the same time, put later: not newer.
    handle.put(late);
    assert!(Arc::ptr_eq(&current, &handle.current()));
}

#[test]
fn a_directory_with_mistakes_does_not_begin() {
    let dir = tempfile::tempdir().unwrap();
    assert!(Handle::load(dir.path()).is_err());
    assert!(Handle::load(&dir.path().join("nothing")).is_err());
}
