"""An agent that connects for a suite outside of its scope: it is asked for a port at the socket named by its argument,
and hands over the connection. So the daemon sees an agent, while the servers of the suite, which are in the process
of its clients, listen outside."""

import os
import socket
import sys

listener = socket.socket(socket.AF_UNIX)
listener.bind(sys.argv[1])
listener.listen(64)
print("ready", flush=True)
while True:
    asks, _ = listener.accept()
    with asks:
        try:
            with socket.create_connection(("127.0.0.1", int(asks.recv(16)))) as way:
                socket.send_fds(asks, [b"!"], [way.fileno()])
        except OSError as error:
            print(error, file=sys.stderr, flush=True)
