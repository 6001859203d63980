//! A token that was taken is nowhere any more.

use super::*;

#[test]
fn a_token_that_is_taken_is_removed_and_one_that_would_stay_is_not_taken() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("token");
    let taken = |path: &Path| TokenIn::File(path.to_owned()).take();
    fs::write(&path, "a.b.c\n").unwrap();
    let read = TokenIn::File(path.clone()).read().unwrap();
    assert_eq!(read.0.as_str(), "a.b.c");
    assert!(path.exists(), "reading removed it");
    assert_eq!(taken(&path).unwrap(), read);
    assert!(!path.exists(), "it stays");

    fs::write(&path, "a.b.c").unwrap();
    let other = directory.path().join("other");
    std::os::unix::fs::symlink(&path, &other).unwrap();
    taken(&other).unwrap_err();
    fs::remove_file(&other).unwrap();
    fs::hard_link(&path, &other).unwrap();
    let error = taken(&path).unwrap_err();
    assert!(error.to_string().contains("one name"), "{error}");
    assert!(path.exists() && other.exists());
    assert_eq!(format!("{read:?}"), "Token");
}

#[test]
fn a_variable_is_told_from_a_file() {
    let variable: TokenIn = "ENV:CI_TOKEN".parse().unwrap();
    assert_eq!(variable.variable(), Some("CI_TOKEN"));
    let file: TokenIn = "CI_TOKEN".parse().unwrap();
    assert_eq!(file.variable(), None);
}
