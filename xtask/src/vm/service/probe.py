# An agent as a service with the drop-in: what it is left with, and what comes of reaching for the target.
import errno, os, socket

status = dict(line.split(":", 1) for line in open("/proc/self/status") if ":" in line)
said = [word + "=" + status[word].strip() for word in ("CapBnd", "NoNewPrivs", "Seccomp")]


def tries(name, act):
    try:
        act()
        said.append(name + "=ok")
    except OSError as error:
        said.append(name + "=" + errno.errorcode.get(error.errno, "other"))


def dials():
    with socket.create_connection(("127.0.0.1", 5432), timeout=60) as tried:
        tried.sendall(b"\x00\x00\x00\x08\x04\xd2\x16\x2f")
        said.append("answered" if tried.recv(1) else "closed")


tries("etc", lambda: os.listdir("/etc/interceptor"))
tries("control", lambda: socket.socket(socket.AF_UNIX).connect("/run/interceptor/control.sock"))
tries("packets", lambda: socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM))
tries("vsock", lambda: socket.socket(socket.AF_VSOCK, socket.SOCK_STREAM))
tries("authority", lambda: open(os.environ["NODE_EXTRA_CA_CERTS"]).read())
tries("dials", dials)
print(*said)
