//! What the file may say: one table of keys, from which both the check and the JSON Schema are made.
//!
//! A key that is not here is refused; a key that is here has one shape, one sentence and, where it may
//! be left out, one default in words. The table says nothing of how keys concern each other: see `cross`.

mod console;
pub(super) mod detect;
pub(super) mod http;
mod issuers;
pub(super) mod kubernetes;
mod launcher;
pub(super) mod proxy;
mod records;
pub(super) mod schema;
pub(super) mod ssh;

/// What may stand under a key.
#[derive(Debug)]
pub(super) enum Shape {
    /// `true` or `false`.
    Flag,
    /// A whole number between these, both included.
    Count(u32, u32),
    /// As `Count`, or the word `unlimited`.
    Limit(u32, u32),
    /// A duration between these milliseconds, both included.
    Duration(u64, u64),
    /// A size between these bytes, both included.
    Size(u64, u64),
    /// As `Size`, or the word `unlimited`.
    SizeLimit(u64, u64),
    /// Text of this form.
    Text(Form),
    /// One of these words.
    Word(&'static [&'static str]),
    /// A list of at least this many elements.
    List(usize, &'static Self),
    /// A map from names to this.
    Names(&'static Self),
    /// A map from columns to this.
    Columns(&'static Self),
    /// A map from fields of JSON to this.
    Fields(&'static Self),
    /// Text of this form, or a map with these keys; nothing is the map without any.
    TextOr(Form, &'static [Key]),
    /// A map with these keys.
    Keys(&'static [Key]),
    /// A map with exactly one of these keys.
    OneKey(&'static [Key]),
    /// A map with this key alone, or with the other keys.
    KeyOr(&'static Key, &'static [Key]),
}

/// The form of a text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Form {
    /// 1 to 63 of `a-z 0-9 -`.
    Name,
    /// A path; relative ones start at the file's directory.
    Path,
    /// The path of a file that holds something, which the daemon reads later.
    Holds(Held),
    /// A cgroup below the mount: relative, no `..`.
    Cgroup,
    /// A host and port.
    Address,
    /// A literal address and port.
    Socket,
    /// A network or address.
    Network,
    /// A DNS name or literal address.
    ServerName,
    /// A database, role or schema: 1 to 255 bytes, no NUL.
    Identifier,
    /// A variable of the environment.
    Variable,
    /// The name of a systemd credential.
    Credential,
    /// An argument of a command: no NUL.
    Argument,
    /// A column, as policy names it, without the target.
    Column,
    /// A function, as policy names it, without target and database.
    Function,
    /// What stands in the place of a column.
    Mask,
    /// A mask, or the name of a tag.
    MaskOrTag,
    /// An address of the web, without query and fragment.
    Url,
    /// A recipient of `age`.
    Recipient,
    /// A claim of a token: its name, or a JSON pointer to it.
    Claim,
    /// Keys of JSON to a field, with dots between: `*` for one of any name, `**` for any number of them.
    Field,
    /// The name of a header.
    Header,
    /// A path of a request: `/graphql`.
    RequestPath,
    /// A domain of DNS.
    Domain,
    /// A type of DNS records that is known by a name.
    RecordType,
    /// A host and port, or a UNIX socket: `unix:/run/postgresql/.s.PGSQL.5432`.
    Server,
    /// The same, or every host below a domain: `*.below:5432`.
    Addresses,
    /// A public key of an SSH server, or of who signs its certificates; or `learn`.
    HostKey,
    /// A variable that is passed on, or the beginning of some.
    EnvPattern,
    /// A UNIX socket: its whole path, or its abstract name behind an `@`.
    Door,
    /// A whole path.
    WholePath,
    /// The name of a label of containers, or name and value with `=` between.
    Label,
}

/// What a named file holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Held {
    /// Certificates of X.509, PEM.
    Certificates,
    /// What a SAML identity provider's assertions are verified by.
    Trust,
    /// A user's certificate of SSH.
    SshCertificate,
    /// Descriptors of messages of protocol buffers.
    Descriptors,
}

/// One key.
#[derive(Debug)]
pub(super) struct Key {
    pub(super) name: &'static str,
    pub(super) shape: Shape,
    /// What is used where it is left out; `None` where it must be said.
    pub(super) default: Option<&'static str>,
    /// What it means, in one sentence.
    pub(super) about: &'static str,
}

const fn must(name: &'static str, shape: Shape, about: &'static str) -> Key {
    Key {
        name,
        shape,
        default: None,
        about,
    }
}

const fn may(name: &'static str, shape: Shape, default: &'static str, about: &'static str) -> Key {
    Key {
        name,
        shape,
        default: Some(default),
        about,
    }
}

const HOUR: u64 = 3_600_000;
const DAY: u64 = 24 * HOUR;
const KIB: u64 = 1 << 10;
const GIB: u64 = 1 << 30;
const PORT: Shape = Shape::Count(1, 65_535);
const COUNT: Shape = Shape::Limit(1, 1_000_000);

/// The whole file.
pub(super) static FILE: Shape = Shape::Keys(&[
    must("version", Shape::Count(1, 1), "Version of this format: 1."),
    may(
        "paths",
        PATHS,
        "see its keys",
        "Where the daemon keeps what.",
    ),
    may(
        "daemon_cgroup",
        Shape::Text(Form::Cgroup),
        "where the daemon is, or `interceptor`",
        "The cgroup that the daemon lives in; outside every scope.",
    ),
    may(
        "run_parent",
        Shape::Text(Form::Cgroup),
        "agents.slice",
        "The cgroup below which `interceptor run` makes its scopes.",
    ),
    may(
        "guard",
        Shape::Word(&["scopes", "host"]),
        "scopes",
        "Host: also looks at every other process of the host, so that no scope uses a socket from outside, and nobody who was moved out of one makes any.",
    ),
    may(
        "scopes",
        Shape::List(0, &SCOPE),
        "none",
        "Tagged cgroups and containers: their processes are intercepted.",
    ),
    may(
        "containers",
        CONTAINERS,
        "see its keys",
        "How containers are known.",
    ),
    may(
        "agents",
        Shape::Names(&AGENT),
        "none",
        "What each agent may use up, by its name.",
    ),
    may(
        "targets",
        Shape::Names(&TARGET),
        "none",
        "Upstreams, by name.",
    ),
    may(
        "issuers",
        Shape::Names(&issuers::ISSUER),
        "none",
        "Whose tokens say who stands behind an agent, by name.",
    ),
    may(
        "direct",
        Shape::List(0, &DIRECT),
        "none",
        "Destinations that are not intercepted.",
    ),
    may(
        "resolvers",
        Shape::List(0, &RESOLVER),
        "the servers of /etc/resolv.conf",
        "DNS servers that scopes may ask, through the daemon.",
    ),
    may("names", NAMES, "see its keys", "What scopes may ask them."),
    may(
        "unix",
        UNIX,
        "see its keys",
        "UNIX sockets that were made outside of a scope.",
    ),
    may(
        "authority",
        AUTHORITY,
        "see its keys",
        "The host's own authority, whose certificates agents are shown.",
    ),
    may(
        "launcher",
        launcher::LAUNCHER,
        "see its keys",
        "What `interceptor run` takes away from commands.",
    ),
    may("audit", records::AUDIT, "see its keys", "The audit log."),
    may(
        "recording",
        records::RECORDING,
        "see its keys",
        "The recordings.",
    ),
    may(
        "metrics",
        Shape::Text(Form::Socket),
        "not served",
        "Where metrics are served over TCP; never reachable from a scope.",
    ),
    may(
        "console",
        console::CONSOLE,
        "not served",
        "The web page for people who answer requests.",
    ),
    may(
        "approvals",
        console::APPROVALS,
        "see its keys",
        "How people are asked.",
    ),
    may(
        "drain",
        Shape::Duration(0, HOUR),
        "30s",
        "How long a drain waits for sessions.",
    ),
]);

const PATHS: Shape = Shape::Keys(&[
    may(
        "run",
        Shape::Text(Form::Path),
        "/run/interceptor",
        "Directory of the sockets.",
    ),
    may(
        "state",
        Shape::Text(Form::Path),
        "/var/lib/interceptor",
        "Directory of the certificate authority, the audit log and the recordings.",
    ),
    may(
        "bpffs",
        Shape::Text(Form::Path),
        "/sys/fs/bpf/interceptor",
        "Directory of the pins.",
    ),
    may(
        "policies",
        Shape::Text(Form::Path),
        "policies",
        "Directory of the Cedar files.",
    ),
]);

static SCOPE: Shape = Shape::Keys(&[
    may(
        "cgroup",
        Shape::Text(Form::Cgroup),
        "by `match`",
        "Path below the cgroup v2 mount; made when missing.",
    ),
    may(
        "match",
        Shape::Keys(&[must(
            "container_label",
            Shape::Text(Form::Label),
            "A label or annotation that it has: its name, or NAME=VALUE.",
        )]),
        "by `cgroup`",
        "Containers that a runtime's hook tells of: the first rule that fits says whose they are.",
    ),
    must("agent", Shape::Text(Form::Name), "The agent's name."),
]);

const CONTAINERS: Shape = Shape::Keys(&[may(
    "state",
    Shape::List(0, &Shape::Text(Form::WholePath)),
    "none",
    "Where container runtimes keep what they know, beside the usual places: storage of Podman or CRI-O, tasks of \
     containerd (`.../io.containerd.runtime.v2.task`), Docker's data.",
)]);

static AGENT: Shape = Shape::Keys(&[
    may("connections", COUNT, "256", "Connections at once."),
    may("sessions", COUNT, "128", "Sessions at once."),
    may(
        "requests_per_second",
        COUNT,
        "unlimited",
        "Requests a second.",
    ),
    may(
        "allow_privileged",
        Shape::Flag,
        "false",
        "Inject credentials for processes that hold host capabilities, and let containers start that may hold NET_ADMIN.",
    ),
]);

static TARGET: Shape = Shape::Keys(&[
    must(
        "addresses",
        Shape::List(1, &Shape::Text(Form::Addresses)),
        "Where agents dial, and where the daemon dials.",
    ),
    may(
        "postgres",
        POSTGRES,
        "another protocol",
        "The target speaks PostgreSQL.",
    ),
    may(
        "http",
        http::HTTP,
        "another protocol",
        "The target speaks HTTP.",
    ),
    may(
        "ssh",
        ssh::SSH,
        "another protocol",
        "The target speaks SSH.",
    ),
    kubernetes::KEY,
    proxy::KEY,
    may(
        "dial",
        DIAL,
        "see its keys",
        "Where the daemon dials, where that is not where the agent dialled.",
    ),
    may(
        "namespace",
        Shape::Word(&["daemon", "client"]),
        "daemon",
        "From which network namespace the daemon dials.",
    ),
    may("tls", TLS, "see its keys", "TLS to the upstream."),
    may(
        "statement",
        Shape::Word(&["none", "redacted", "full"]),
        "redacted",
        "What the audit keeps of statement text.",
    ),
    may(
        "keep",
        records::KEEP,
        "as `recording.keep`",
        "How long its recordings are kept.",
    ),
    may(
        "record",
        Shape::Flag,
        "true",
        "Whether sessions are recorded.",
    ),
    may(
        "timeouts",
        TIMEOUTS,
        "see its keys",
        "How long it waits for what.",
    ),
    may(
        "tags",
        Shape::Names(&TAG),
        "none",
        "Masks by name, for `sensitive` to say what a column is rather than how it is masked.",
    ),
    may(
        "sensitive",
        Shape::Columns(&SENSITIVE),
        "none",
        "Columns (`schema.table.column`, with `database/` before it for one database only) that are masked \
         for whoever policy does not permit to `Reveal` them: a mask or a tag.",
    ),
    may(
        "detect",
        detect::KINDS,
        "off",
        "What is done about values that are found in answers by their form.",
    ),
]);

static TAG: Shape = Shape::TextOr(Form::Mask, &[MASK, MASK_TEXT, MASK_JOINABLE]);

static SENSITIVE: Shape = Shape::TextOr(Form::MaskOrTag, &[MASK_OR_TAG, MASK_TEXT, MASK_JOINABLE]);

const MASK: Key = may(
    "mask",
    Shape::Text(Form::Mask),
    "null",
    "null, constant, hash, last4, email, year, partial(N) or hide.",
);

const MASK_OR_TAG: Key = may(
    "mask",
    Shape::Text(Form::MaskOrTag),
    "null",
    "null, constant, hash, last4, email, year, partial(N), hide, or a tag.",
);

const MASK_TEXT: Key = may(
    "text",
    Shape::Text(Form::Identifier),
    "none",
    "What a constant shows.",
);

const MASK_JOINABLE: Key = may(
    "joinable",
    Shape::Word(&["session", "target"]),
    "session",
    "Where equal values have equal hashes.",
);

const POSTGRES: Shape = Shape::Keys(&[
    must(
        "user",
        Shape::Text(Form::Identifier),
        "The role that logs in.",
    ),
    may("password", SECRET, "none", "Where its password comes from."),
    must(
        "databases",
        Shape::List(1, &Shape::Text(Form::Identifier)),
        "Which databases may be asked for.",
    ),
    may(
        "search_path",
        Shape::List(1, &Shape::Text(Form::Identifier)),
        "[public]",
        "The search_path that is set at login.",
    ),
    may(
        "functions",
        Shape::List(1, &Shape::Text(Form::Function)),
        "none",
        "Functions (`schema.function`) that may be called while columns are masked, as they compute from \
         their arguments alone.",
    ),
    may(
        "allow_md5",
        Shape::Flag,
        "false",
        "Whether the server may ask for an MD5 login.",
    ),
    may(
        "require_scram",
        Shape::Flag,
        "false",
        "Whether the server must ask for a SCRAM login.",
    ),
    may(
        "warm",
        WARM,
        "see its keys",
        "Connections that are logged in before a session asks for one.",
    ),
    may(
        "client_auth",
        Shape::Word(&["trust", "scram"]),
        "trust",
        "What clients are asked for; scram asks for the password that `interceptor run` sets.",
    ),
    may(
        "ask_password",
        Shape::Flag,
        "false",
        "Whether clients are asked for a password, which is reported by a keyed fingerprint and never used.",
    ),
    may(
        "session_attrs",
        Shape::Word(&[
            "any",
            "read-write",
            "read-only",
            "primary",
            "standby",
            "prefer-standby",
        ]),
        "any",
        "What the server must be, in libpq's words (`target_session_attrs`).",
    ),
    may(
        "pooler",
        Shape::Word(&["none", "session"]),
        "none",
        "Whether a pooler in session mode stands before the server.",
    ),
]);

const DIAL: Shape = Shape::Keys(&[
    may(
        "hosts",
        Shape::List(1, &Shape::Text(Form::Server)),
        "where the agent dialled",
        "Servers that stand for each other.",
    ),
    may(
        "order",
        Shape::Word(&["listed", "random"]),
        "listed",
        "In which order they are tried; one that could not be reached a moment ago is tried last.",
    ),
    may(
        "timeout",
        Shape::Duration(1, HOUR),
        "3s",
        "How long one of several may take to be connected and logged in to.",
    ),
]);

const WARM: Shape = Shape::Keys(&[
    may(
        "connections",
        Shape::Count(0, 64),
        "2",
        "How many may wait at the target, for what a session asked for in the last two minutes; 0 for none.",
    ),
    may(
        "age",
        Shape::Duration(1_000, 600_000),
        "30s",
        "How long one may wait before it is closed unused.",
    ),
]);

const SECRET: Shape = Shape::OneKey(&[
    must(
        "file",
        Shape::Text(Form::Path),
        "A file, mode 0600 or tighter, owned by root or the daemon's user.",
    ),
    must(
        "env",
        Shape::Text(Form::Variable),
        "A variable of the daemon's environment.",
    ),
    must("exec", EXEC, "The standard output of a command."),
    must(
        "credential",
        Shape::Text(Form::Credential),
        "A systemd credential (`LoadCredential=`).",
    ),
]);

const EXEC: Shape = Shape::Keys(&[
    must(
        "command",
        Shape::List(1, &Shape::Text(Form::Argument)),
        "Program, by absolute path, and arguments.",
    ),
    may(
        "timeout",
        Shape::Duration(1, 60_000),
        "10s",
        "How long it may run.",
    ),
    may(
        "ttl",
        Shape::Duration(0, DAY),
        "60s",
        "How long its answer is used; 0s asks each time.",
    ),
]);

const TLS: Shape = Shape::Keys(&[
    may(
        "mode",
        Shape::Word(&["disable", "require", "verify-ca", "verify-full"]),
        "verify-full",
        "How the server is verified, in libpq's words.",
    ),
    may(
        "ca",
        Shape::Text(Form::Holds(Held::Certificates)),
        "the host's own roots",
        "Trusted roots, PEM.",
    ),
    may(
        "server_name",
        Shape::Text(Form::ServerName),
        "the name in the address",
        "The name to verify.",
    ),
    may(
        "certificate",
        Shape::Text(Form::Holds(Held::Certificates)),
        "what `key` holds",
        "The client's certificate and its chain, PEM; a rotated file counts after a minute.",
    ),
    may(
        "key",
        SECRET,
        "none",
        "The client certificate's key, PEM; read at each login.",
    ),
    may(
        "negotiation",
        Shape::Word(&["postgres", "direct"]),
        "postgres",
        "Whether PostgreSQL is asked for TLS, or spoken to in TLS from the first byte on.",
    ),
]);

const TIMEOUTS: Shape = Shape::Keys(&[
    may(
        "startup",
        Shape::Duration(1, HOUR),
        "10s",
        "For the client to finish its startup.",
    ),
    may(
        "dial",
        Shape::Duration(1, HOUR),
        "10s",
        "To connect and log in upstream.",
    ),
    may(
        "idle",
        Shape::Duration(1, 30 * DAY),
        "none",
        "For a session without a request.",
    ),
    may(
        "idle_in_transaction",
        Shape::Duration(1, 30 * DAY),
        "none",
        "For a session without a request while a transaction is open.",
    ),
    may(
        "statement",
        Shape::Duration(1, 30 * DAY),
        "none",
        "For a statement; it is cancelled upstream, and a server that goes on loses the session.",
    ),
    may(
        "hold",
        Shape::Duration(0, HOUR / 4),
        "5m",
        "For a request that waits for an approval; 0s lets none wait, it comes back for the answer.",
    ),
]);

static DIRECT: Shape = Shape::Keys(&[
    must("network", Shape::Text(Form::Network), "Network or address."),
    may("port", PORT, "every port", "Port."),
    may(
        "agents",
        Shape::List(1, &Shape::Text(Form::Name)),
        "every agent",
        "For these agents only.",
    ),
    may(
        "needs_daemon",
        Shape::Flag,
        "false",
        "Refused while the daemon is down.",
    ),
]);

static RESOLVER: Shape = Shape::Keys(&[must(
    "address",
    Shape::Text(Form::Socket),
    "Address and port of the server.",
)]);

const NAMES: Shape = Shape::Keys(&[
    may(
        "private",
        Shape::List(0, &Shape::Text(Form::Domain)),
        "none",
        "Domains whose names may have private addresses; those of targets may.",
    ),
    may(
        "types",
        Shape::List(1, &Shape::Text(Form::RecordType)),
        "A, AAAA, CNAME, HTTPS, MX, NS, PTR, SOA, SRV, SVCB",
        "Types of records that may be asked for.",
    ),
    may(
        "queries_per_second",
        Shape::Count(1, 100_000),
        "50",
        "Questions a second of one scope.",
    ),
    may(
        "refusal",
        Shape::Word(&["refused", "nxdomain"]),
        "refused",
        "How a question is refused.",
    ),
]);

const UNIX: Shape = Shape::Keys(&[
    may(
        "others",
        Shape::Word(&["refuse", "permit"]),
        "refuse",
        "What becomes of a scope's way to any that is not allowed.",
    ),
    may(
        "allow",
        Shape::List(0, &Shape::Text(Form::Door)),
        "none",
        "Those that scopes may reach: whole paths as their makers named them, abstract names behind an `@`.",
    ),
]);

const AUTHORITY: Shape = Shape::Keys(&[
    may(
        "names",
        Shape::List(0, &Shape::Text(Form::ServerName)),
        "none, and every name where a PostgreSQL target is dialled by an address",
        "Names, each with all below it, and addresses that its certificates may be for, beside those of the targets.",
    ),
    may(
        "seal",
        SECRET,
        "in clear, mode 0600",
        "A secret of 32 random bytes or more that the authority's key is encrypted with on disk.",
    ),
]);
