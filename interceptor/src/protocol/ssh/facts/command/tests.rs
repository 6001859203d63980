//! Commands as shells read them, and what is made of no other.

use super::*;

fn simple(command: &str) -> Option<Vec<String>> {
    match read(command.as_bytes()) {
        Command::Simple(words) => Some(words),
        Command::Complex(_) => None,
    }
}

fn constructs(command: &[u8]) -> Vec<&'static str> {
    match read(command) {
        Command::Simple(words) => panic!("{words:?} is simple"),
        Command::Complex(constructs) => constructs.into_iter().collect(),
    }
}

#[test]
fn a_simple_command_is_read_as_every_shell_reads_it() {
    let cases: [(&str, &[&str]); 9] = [
        ("ls", &["ls"]),
        ("  ls   -l\t/etc ", &["ls", "-l", "/etc"]),
        (
            "grep 'a b|c' \"d e\" f\\ g",
            &["grep", "a b|c", "d e", "f g"],
        ),
        ("echo a'b'\"c\"d", &["echo", "abcd"]),
        ("echo \"\\\\ \\n\"", &["echo", "\\ \\n"]),
        ("echo '' a", &["echo", "", "a"]),
        ("cut -d= -f1 a#b a~b", &["cut", "-d=", "-f1", "a#b", "a~b"]),
        (
            "git-upload-pack 'team/app.git'",
            &["git-upload-pack", "team/app.git"],
        ),
        (
            "/bin/sh -c 'id; rm -rf /'",
            &["/bin/sh", "-c", "id; rm -rf /"],
        ),
    ];
    for (command, words) in cases {
        let words = words.iter().map(|&word| word.to_owned()).collect();
        assert_eq!(simple(command), Some(words), "{command}");
    }
}

#[test]
fn what_a_shell_could_make_more_of_is_named() {
    let cases: [(&[u8], &[&str]); 36] = [
        (b"ls | sh", &["pipeline"]),
        (b"ls || rm x", &["sequence"]),
        (b"ls && rm x", &["sequence"]),
        (b"ls; rm x", &["sequence"]),
        (b"ls\nrm x", &["sequence"]),
        (b"ls & rm x", &["sequence"]),
        (b"(ls)", &["sequence"]),
        (b"ls > /etc/x", &["redirection"]),
        (b"ls <x", &["redirection"]),
        (b"ls $HOME", &["substitution"]),
        (b"ls \"$(id)\"", &["substitution"]),
        (b"ls `id`", &["substitution"]),
        (b"ls *", &["pattern"]),
        (b"ls {a,b}", &["pattern"]),
        (b"ls ~root", &["pattern"]),
        (b"PATH=/tmp ls", &["assignment"]),
        (b"ls #x", &["comment"]),
        (b"if true", &["keyword"]),
        (b"eval ls", &["keyword"]),
        (b". ./x", &["keyword"]),
        (b"ls 'x", &["unreadable"]),
        (b"ls \"x", &["unreadable"]),
        (b"ls \\", &["unreadable"]),
        (b"", &["unreadable"]),
        (b"ls \xff", &["unreadable"]),
        (b"ls '\0' -l", &["unreadable"]),
        // csh: the quotes end at the second.
        (b"ls \"a\\\";id;\\\"b\"", &["unreadable"]),
        (b"ls \"\\`id\\`\"", &["substitution"]),
        (b"ls \"\\$x\"", &["substitution"]),
        (b"ls '!!'", &["pattern"]),
        // fish: the first quotes do not end where they seem to, and all behind is a comment.
        (b"ls 'a\\' ';id #'", &["unreadable"]),
        (b"cat /srv/\\x2e\\x2e/x", &["unreadable"]),
        // Where characters have two bytes, the backslash is the second of one.
        (b"ls \xe4\xb8\xad\\;id", &["unreadable"]),
        (
            b"ls \"\xe4\xb8\xad\\\\\";id;\"",
            &["sequence", "unreadable"],
        ),
        (b"ls \"\xe4\xb8\xad\\n\"", &["unreadable"]),
        (b"cat <<x\nx\n", &["redirection", "sequence"]),
    ];
    for (command, expected) in cases {
        assert_eq!(
            constructs(command),
            expected,
            "{:?}",
            command.escape_ascii().to_string()
        );
    }
}

#[test]
fn copies_are_asked_for_as_files_where_they_say_nothing_else() {
    let asked = |command: &str| {
        let accesses = accesses(&read(command.as_bytes()))?;
        let said = accesses.iter().map(|access| {
            let Resource::File { path } = &access.resource else {
                panic!("{:?}", access.resource);
            };
            format!("{:?} {}", access.action, path.join("/"))
        });
        Some(said.collect::<Vec<_>>().join(", "))
    };
    let cases = [
        ("scp -f /etc/passwd", Some("ReadFile etc/passwd")),
        ("scp -r -p -t -- notes", Some("WriteFile ~/notes")),
        ("scp -t -S x /a", None),
        ("scp -f a b", None),
        ("scp -f -t /a", None),
        ("scp -tf /a", None),
        ("scp -t -r -t /a", Some("WriteFile a")),
        ("scp /a", None),
        ("scp -t ../x", None),
        (
            "rsync --server --sender -logDtpre.iLsfxCIvu . /srv/a b",
            Some("ReadFile srv/a, ReadFile ~/b"),
        ),
        (
            "rsync --server -logDtpre.iLsfxCIvu --delete . /srv",
            Some("WriteFile srv, RemoveFile srv"),
        ),
        ("rsync --server --log-file=/etc/x -v . /srv", None),
        ("rsync --server -s . ", None),
        ("rsync --server --sender -vr . /srv --log-file=x", None),
        (
            "rsync --server --sender -vr . /srv '--log-file-format=$(id)'",
            None,
        ),
        (
            "rsync --server --sender -vr . --files-from=/etc/shadow /srv",
            None,
        ),
        ("rsync --server -vr . /srv --sender", None),
        ("rsync --server -vr . /srv --remove-source-files", None),
        ("rsync --server -vr . /srv -n", None),
        ("rsync --server -vr . -- /srv", None),
        ("rsync --server -vr . ./-n", Some("WriteFile ~/-n")),
        ("rsync --daemon", None),
        ("cat /etc/passwd", None),
    ];
    for (command, expected) in cases {
        assert_eq!(asked(command).as_deref(), expected, "{command}");
    }
}

#[test]
fn git_says_what_it_does_and_on_what() {
    let said = |command: &str| {
        let mut facts = SshFacts::default();
        describe(&read(command.as_bytes()), &mut facts);
        (facts.git_verb, facts.git_repository)
    };
    let of = |verb: &str, repository: &str| (verb.to_owned(), repository.to_owned());
    assert_eq!(
        said("git-upload-pack '/srv/app.git'"),
        of("fetch", "/srv/app.git")
    );
    assert_eq!(said("git receive-pack app"), of("push", "app"));
    assert_eq!(said("git-upload-pack --upload-pack=x app"), of("", ""));
    assert_eq!(said("git clone x"), of("", ""));
}
