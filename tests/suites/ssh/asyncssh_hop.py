"""asyncssh's own tests, whose clients come by an agent."""

import asyncio
import contextvars
import os
import shutil

import asyncssh

import hop
import runner
from tests import server, util

# The keys of its server and of whom it lets in are made at each start: here they are those that the daemon has.
for number, name in enumerate(["ckey", "skey"]):
    key = asyncssh.read_private_key(os.path.join(hop.DIRECTORY, name))
    util._test_keys[("ssh-rsa", number)] = key

login = contextvars.ContextVar("login", default="guest")
starting = contextvars.ContextVar("starting", default=False)

plain_listen = asyncssh.listen
plain_connect = asyncssh.connection._connect
plain_connection = asyncio.BaseEventLoop.create_connection
plain_set_up = server.ServerTestCase.asyncSetUpClass.__func__


def listen(host="", port=0, *more, **options):
    """The server that a class starts for its tests is where the targets lead."""
    if starting.get() and not port and not options.get("sock"):
        port = hop.PORT
    return plain_listen(host, port, *more, **options)


async def connect(options, *more):
    login.set(getattr(options, "username", "guest"))
    return await plain_connect(options, *more)


async def connection(loop, factory, host=None, port=None, **options):
    if hop.WAYS and port == hop.PORT and not options.get("sock"):
        return await plain_connection(loop, factory, sock=hop.connect(login.get()))
    return await plain_connection(loop, factory, host, port, **options)


async def set_up(case):
    starting.set(True)
    try:
        await plain_set_up(case)
    finally:
        starting.set(False)
    if hop.WAYS:
        # Whoever believes only these keys has met the daemon.
        with open("known_hosts", "w") as known:
            for kind, key in hop.host_keys().values():
                known.write(f"[127.0.0.1]:{hop.PORT},localhost {kind} {key}\n")
        shutil.copy("known_hosts", os.path.join(".ssh", "known_hosts"))


asyncssh.listen = listen
asyncssh.connection._connect = connect
asyncio.BaseEventLoop.create_connection = connection
server.ServerTestCase.asyncSetUpClass = classmethod(set_up)


class Crossing(runner.Lines):
    """Says which tests have gone through the daemon."""

    def startTest(self, test):
        super().startTest(test)
        self.before = hop.begins()

    def addSuccess(self, test):
        super().addSuccess(test)
        if hop.CROSSED[0] > self.before:
            self.say("crossed", test)

    def addError(self, test, error):
        super().addError(test, error)
        if issubclass(error[0], TimeoutError) and getattr(test, "loop", None):
            # What it waited for would be waited for again at the end of its class.
            for task in asyncio.all_tasks(test.loop):
                task.cancel()

    def stopTest(self, test):
        # The end of a class is bounded, too.
        hop.begins()
        super().stopTest(test)


runner.main(Crossing())
hop.ends()
