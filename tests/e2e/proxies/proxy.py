# A proxy of HTTP that leads wherever it likes: each name to 127.0.0.1, and notes what it is asked for.
# usage: python3 proxy.py ADDRESS PORT LOG [PIECE...]   (what it answers, each piece by itself; default: 200)
import socket
import sys
import threading

own, port, log, *pieces = sys.argv[1:]
pieces = [piece.encode().decode("unicode_escape").encode("latin-1") for piece in pieces]
pieces = pieces or [b"HTTP/1.1 200 OK\r\n\r\n"]


def carry(one, other):
    try:
        while data := one.recv(65536):
            other.sendall(data)
        other.shutdown(socket.SHUT_WR)
    except OSError:
        pass


def serve(client):
    head = b""
    while not head.endswith(b"\r\n\r\n"):
        byte = client.recv(1)
        if not byte:
            return client.close()
        head += byte
    with open(log, "a") as lines:
        lines.write(repr(head) + "\n")
    method, place = head.decode().split(" ")[:2]
    is_page = method != "CONNECT"
    if is_page:
        _, _, place, path = place.split("/", 3)
        head = head.replace(f"http://{place}".encode(), b"", 1)
    client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    for piece in [] if is_page else pieces:
        client.sendall(piece)
    server = socket.create_connection(("127.0.0.1", int(place.rsplit(":", 1)[1])))
    if is_page:
        server.sendall(head)
    for ends in (client, server), (server, client):
        threading.Thread(target=carry, args=ends, daemon=True).start()


listener = socket.create_server((own, int(port)))
print("up", flush=True)
while True:
    threading.Thread(target=serve, args=(listener.accept()[0],), daemon=True).start()
