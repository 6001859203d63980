"""paramiko's own tests, whose clients come by an agent: a plug-in of pytest.

Most of them join a client and a server by two ends of a pipe in memory. Here these are the ends of a connection. The
daemon logs in after its client has: the server's end takes its connection when it is first read from, and a channel
is there for the server once something is asked for on it."""

import base64
import errno
import os
import socket
import threading
import time

import paramiko
import pytest

import hop
import lines
import tests._loop

LOGIN = "slowdive"
# Where the tests' server listens now.
LISTENS = [None]
# The server of the test at hand.
SERVER = [None]


def listens():
    """A server anew: what has not been accepted at the one before is gone with it."""
    listens_no_more()
    LISTENS[0] = socket.create_server(("127.0.0.1", hop.PORT))
    return LISTENS[0]


def listens_no_more():
    SERVER[0] = None
    if LISTENS[0] is not None:
        try:
            # Wakes whoever waits at it.
            LISTENS[0].shutdown(socket.SHUT_RDWR)
        except OSError:
            pass
        LISTENS[0].close()
        LISTENS[0] = None


class End:
    """An end of a connection, which is made when it is first used."""

    def __init__(self):
        self.way = self.listener = self.mate = self.timeout = None
        self.login = LOGIN
        self.waiting = b""
        self.closed = self._closed = False
        self.lock = threading.RLock()

    def link(self, server):
        self.mate, server.mate = server, self
        server.listener = listens()

    def settimeout(self, timeout):
        self.timeout = timeout
        if self.way:
            self.way.settimeout(timeout)

    def joins(self):
        with self.lock:
            if self.closed:
                raise EOFError
            if self.way is None and self.listener is None:
                self.made(hop.connect(self.login))
        if self.way is None:
            self.listener.settimeout(self.timeout)
            self.made(self.listener.accept()[0])
        return self.way

    def made(self, way):
        with self.lock:
            way.settimeout(self.timeout)
            self.way = way
            way.sendall(self.waiting)

    def send(self, data):
        data = paramiko.util.asbytes(data)
        with self.lock:
            if self.way is None and self.listener is not None:
                self.waiting += data
                return len(data)
        return self.joins().send(data)

    def recv(self, most):
        try:
            return self.joins().recv(most)
        except (EOFError, ConnectionError, ValueError):
            return b""
        except TimeoutError:
            raise
        except OSError:
            return b""

    def close(self):
        with self.lock:
            self.closed = self._closed = True
            if self.way is not None:
                try:
                    self.way.shutdown(socket.SHUT_RDWR)
                except OSError:
                    pass
                self.way.close()


class Later:
    """A channel that its server hears of when something is asked for on it."""

    def __init__(self, accepts):
        self._accepts = accepts
        self._channel = None

    def _there(self):
        if self._channel is None:
            self._channel = self._accepts(5)
        return self._channel

    def __getattr__(self, name):
        return getattr(self._there(), name)

    def __enter__(self):
        return self

    def __exit__(self, *_error):
        if self._channel is not None:
            self._channel.close()


def key_of(login):
    kind, key = hop.host_keys()[login]
    return paramiko.PKey.from_type_string(kind, base64.b64decode(key))


tests._loop.LoopSocket = End

plain_connect = paramiko.Transport.connect
plain_accept = paramiko.Transport.accept
plain_start = paramiko.Transport.start_server
plain_server_key = paramiko.Transport.add_server_key
plain_client = paramiko.SSHClient.connect
OWN = paramiko.Ed25519Key.from_private_key_file(os.path.join(hop.DIRECTORY, "skey"))


def start_server(self, event=None, server=None):
    SERVER[0] = self
    return plain_start(self, event, server)


def arrives():
    """The daemon logs in after its client has: the tests look at both sides at once."""
    deadline = time.monotonic() + 5
    while hop.WAYS and time.monotonic() < deadline:
        if SERVER[0] is not None and (SERVER[0].is_authenticated() or not SERVER[0].is_active()):
            break
        time.sleep(0.01)


def connect(self, hostkey=None, username="", *more, **options):
    login = username or LOGIN
    if isinstance(self.sock, End):
        self.sock.login = login
    if hop.WAYS and hostkey is not None:
        hostkey = key_of(login if login in hop.WAYS else LOGIN)
    plain_connect(self, hostkey, username, *more, **options)
    arrives()


def accept(self, timeout=None):
    if not (hop.WAYS and self.server_mode):
        return plain_accept(self, timeout)
    channel = plain_accept(self, 0.2)
    return channel or Later(lambda within: plain_accept(self, within))


def add_server_key(self, key):
    plain_server_key(self, key)
    if hop.WAYS:
        plain_server_key(self, OWN)


def connect_client(self, hostname, port=22, username=None, *more, **options):
    if hop.WAYS and port == hop.PORT and not options.get("sock"):
        options["sock"] = hop.connect(username)
        # The one of the connection before is none any more.
        SERVER[0] = None
    plain_client(self, hostname, port, username, *more, **options)
    arrives()


paramiko.Transport.connect = connect
paramiko.Transport.accept = accept
paramiko.Transport.start_server = start_server
paramiko.Transport.add_server_key = add_server_key
paramiko.SSHClient.connect = connect_client


class Bound(socket.socket):
    """A server that a test has for itself is where the target leads."""

    def bind(self, place):
        listens_no_more()
        if place == ("localhost", 0):
            self.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            place = ("127.0.0.1", hop.PORT)
            LISTENS[0] = self
        # A thread of the test before may still be on its way out of the last one.
        deadline = time.monotonic() + 5
        while True:
            try:
                return super().bind(place)
            except OSError as error:
                if error.errno != errno.EADDRINUSE or time.monotonic() > deadline:
                    raise
                time.sleep(0.01)


class Names:
    """What a module of tests calls `socket`."""

    def __init__(self, names):
        self.__dict__.update(names)


def pytest_collection_modifyitems(items):
    modules = {item.module for item in items if item.module.__name__ == "tests.test_client"}
    for module in modules:
        module.socket = Names({**vars(socket), "socket": Bound})
        plain_set_up = module.ClientTest.setUp

        def set_up(self):
            plain_set_up(self)
            if hop.WAYS:
                self.public_host_key = key_of(LOGIN)

        module.ClientTest.setUp = set_up


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item):
    # Fixtures connect, too.
    item.crossed_before = hop.begins()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item):
    try:
        done = yield
        if hop.CROSSED[0] > item.crossed_before:
            print("crossed", item.nodeid.replace(" ", "_"), file=lines.OUT, flush=True)
        return done
    finally:
        hop.ends()
