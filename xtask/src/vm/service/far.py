# The far end: counts, in a file, who came to it; what it is asked it does not answer.
import socket, sys

with socket.create_server(("127.0.0.1", 5432)) as listener:
    while True:
        peer, _ = listener.accept()
        with open(sys.argv[1], "a") as came:
            came.write("x")
        peer.close()
