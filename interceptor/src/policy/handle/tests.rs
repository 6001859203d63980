//! A reload takes whole or not at all.

use super::*;

#[test]
fn a_bad_file_keeps_the_old_policy_and_a_good_one_is_told() {
    let dir = tempfile::tempdir().unwrap();
    let write = |text: &str| std::fs::write(dir.path().join("a.cedar"), text).unwrap();
    write("@id(\"one\") permit(principal is Agent, action, resource);");
    let handle = Handle::load(dir.path()).unwrap();
    let mut changes = handle.changes();
    assert_eq!(handle.generation(), Generation(1));

    write("@id(\"two\") permit(principal is Agent, action, resource");
    let mistakes = handle.reload(dir.path()).unwrap_err();
    assert_eq!(mistakes.0.len(), 1, "{mistakes}");
    assert_eq!(handle.generation(), Generation(1));
    assert_eq!(handle.current().rules()[0].id.0, "one");
    assert!(!changes.has_changed().unwrap());

    write("@id(\"two\") permit(principal is Agent, action, resource);");
    let policy = handle.reload(dir.path()).unwrap();
    assert_eq!(policy.generation(), Generation(2));
    assert_eq!(handle.current().rules()[0].id.0, "two");
    assert!(changes.has_changed().unwrap());
    assert_eq!(*changes.borrow_and_update(), Generation(2));
}

#[test]
fn a_directory_with_mistakes_does_not_begin() {
    let dir = tempfile::tempdir().unwrap();
    assert!(Handle::load(dir.path()).is_err());
    assert!(Handle::load(&dir.path().join("nothing")).is_err());
}
