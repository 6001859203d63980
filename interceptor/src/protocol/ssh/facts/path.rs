//! Paths of the server's files, as they were written: no link is followed here.

/// Bytes of a path.
const MOST: usize = 4_096;

/// The steps of a path. One that is not absolute begins at `home`, or at `~` where that is not known.
/// `None` for what cannot be told by its text alone: it climbs above where it begins, or out of what may be a
/// link, or has what separates steps on another system.
pub(in crate::protocol::ssh) fn steps(path: &str, home: Option<&[String]>) -> Option<Vec<String>> {
    if path.contains(['\0', '\\']) || path.len() > MOST {
        return None;
    }
    let absolute = path.starts_with('/');
    let mut steps = match (absolute, home) {
        (true, _) => Vec::new(),
        (false, Some(home)) => home.to_vec(),
        (false, None) => vec!["~".to_owned()],
    };
    // The root lies in itself; what is above an unknown home is not known.
    let known = absolute || home.is_some();
    let mut named = false;
    for step in path.split('/') {
        match step {
            "" | "." => {}
            // The home is said without links. What is above anything that the path names is not known.
            ".." if known && !named => drop(steps.pop()),
            ".." => return None,
            step => {
                named = true;
                steps.push(step.to_owned());
            }
        }
    }
    // A directory below the root that is called like the home.
    if known && steps.first().is_some_and(|step| step == "~") {
        return None;
    }
    Some(steps)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(path: &str, home: Option<&str>) -> Option<String> {
        let home = home.and_then(|home| steps(home, None));
        steps(path, home.as_deref()).map(|steps| steps.join("/"))
    }

    #[test]
    fn a_path_is_told_by_its_text_alone() {
        let told = [
            ("/etc/passwd", None, Some("etc/passwd")),
            ("/etc//./passwd", None, Some("etc/passwd")),
            ("/srv/link/../passwd", None, None),
            ("a/../b", Some("/home/u"), None),
            ("/srv\\..\\x", None, None),
            ("/../../etc", None, Some("etc")),
            ("/", None, Some("")),
            ("notes", None, Some("~/notes")),
            ("", None, Some("~")),
            ("a/../../etc", None, None),
            ("notes", Some("/home/u"), Some("home/u/notes")),
            ("../../etc", Some("/home/u"), Some("etc")),
            ("/~/x", None, None),
            ("a\0b", None, None),
        ];
        for (path, home, expected) in told {
            assert_eq!(
                said(path, home).as_deref(),
                expected,
                "{path:?} from {home:?}"
            );
        }
    }
}
