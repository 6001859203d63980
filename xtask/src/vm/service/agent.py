# An agent for as long as it is let live: at each line of its input tries to reach the target, and says what came of it.
import errno, os, socket, sys

while True:
    with open(sys.argv[1]) as asked:
        for _ in asked:
            try:
                with socket.create_connection(("127.0.0.1", 5432), timeout=20) as tried:
                    tried.sendall(b"\x00\x00\x00\x08\x04\xd2\x16\x2f")
                    said = "answered" if tried.recv(1) else "closed"
            except OSError as error:
                said = errno.errorcode.get(error.errno, "timeout")
            with open(sys.argv[2] + ".new", "w") as answer:
                answer.write(said)
            os.rename(sys.argv[2] + ".new", sys.argv[2])
