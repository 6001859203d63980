# Ways out of a scope, by name. Each sends `word` to `far`, or over UDP to `gram`; arguments: NAME IP TCP UDP WORD DIRECTORY.
import array, ctypes, mmap, select, threading

name, ip, word, place = sys.argv[1], sys.argv[2], sys.argv[5].encode(), sys.argv[6]
far, gram = (ip, int(sys.argv[3])), (ip, int(sys.argv[4]))
libc = ctypes.CDLL(None, use_errno=True)
ways = {}
NOBODY = 65534


def way(of):
    ways[of.__name__] = of
    return of


def ordinary():
    os.setgroups([])
    os.setgid(NOBODY)
    os.setuid(NOBODY)
    # Who has changed its user is not to be looked into, not even by itself.
    libc.prctl(4, 1, 0, 0, 0)


def failed(answer):
    if answer < 0:
        raise OSError(ctypes.get_errno(), "refused")
    return answer


def try_to(f, *args):
    try:
        f(*args)
    except OSError:
        pass


def say_to(s, to=None):
    s.settimeout(3)
    if to:
        s.connect(to)
    s.sendall(word)


def blocking():
    # A timeout of Python's own makes a socket not wait: what a first SYN does not carry is not sent later then.
    s = socket.socket()
    s.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, struct.pack("ll", 3, 0))
    return s


def child(then):
    pid = os.fork()
    if pid == 0:
        try:
            then()
            os._exit(0)
        except BaseException as error:
            say("inside:", repr(error))
            os._exit(1)
    if os.waitpid(pid, 0)[1] != 0:
        raise OSError("the child failed")


def apart(flags, then):
    def inside():
        failed(libc.unshare(flags))
        then()

    child(inside)


NEWNS, NEWCGROUP, NEWUSER, NEWNET = 0x20000, 0x02000000, 0x10000000, 0x40000000


def packed(to):
    text = struct.pack("=HH4s8x", socket.AF_INET, socket.htons(to[1]), socket.inet_aton(to[0]))
    return ctypes.create_string_buffer(text, 16)


def message(data, to):
    # A struct msghdr, and what it points to.
    data = ctypes.create_string_buffer(data, len(data))
    vector = ctypes.create_string_buffer(struct.pack("QQ", ctypes.addressof(data), len(data)))
    text = struct.pack("QI4xQQQQi4x", ctypes.addressof(to), 16, ctypes.addressof(vector), 1, 0, 0, 0)
    whole = ctypes.create_string_buffer(text, 56)
    whole.kept = (data, vector, to)
    return whole


def uring(op, s, off, about, length, flags):
    params = (ctypes.c_uint32 * 30)()
    ring = failed(libc.syscall(425, 4, params))
    sq, cq = params[10:20], params[20:30]
    rows = mmap.mmap(ring, max(sq[6] + params[0] * 4, cq[5] + params[1] * 16), offset=0)
    entries = mmap.mmap(ring, 64 * params[0], offset=0x10000000)
    # IOSQE_ASYNC: by a worker, not in this task.
    fields = (op, 1 << 4, 0, s.fileno(), off, ctypes.addressof(about), length, flags)
    struct.pack_into("=BBHiQQII", entries, 0, *fields)
    struct.pack_into("I", rows, sq[6], 0)
    struct.pack_into("I", rows, sq[1], 1)
    libc.syscall(426, ring, 1, 1, 1, None, 0)
    _, answer, _ = struct.unpack_from("=QiI", rows, cq[5])
    if answer < 0:
        raise OSError(-answer, "refused")


# TCP.


@way
def tcp_over_ipv4():
    say_to(socket.socket(), far)


@way
def tcp_over_ipv6():
    say_to(socket.socket(socket.AF_INET6), ("::1", far[1]))


@way
def tcp_to_a_mapped_address():
    say_to(socket.socket(socket.AF_INET6), ("::ffff:" + ip, far[1]))


@way
def tcp_to_every_address():
    say_to(socket.socket(), ("0.0.0.0", far[1]))


@way
def tcp_to_every_address_of_ipv6():
    say_to(socket.socket(socket.AF_INET6), ("::", far[1]))


@way
def tcp_to_another_loopback_address():
    say_to(socket.socket(), ("127.9.9.9", far[1]))


@way
def tcp_that_does_not_wait():
    s = socket.socket()
    s.setblocking(False)
    s.connect_ex(far)
    select.select([], [s], [], 3)
    s.send(word)


@way
def fast_open_by_sendto():
    blocking().sendto(word, 0x20000000, far)


@way
def fast_open_by_sendmsg():
    blocking().sendmsg([word], [], 0x20000000, far)


@way
def fast_open_by_connect():
    s = socket.socket()
    s.setsockopt(socket.IPPROTO_TCP, 30, 1)
    say_to(s, far)


@way
def mptcp():
    say_to(socket.socket(socket.AF_INET, socket.SOCK_STREAM, 262), far)


@way
def io_uring_connects():
    s = socket.socket()
    uring(16, s, 16, packed(far), 0, 0)
    say_to(s)


@way
def io_uring_opens_fast():
    s = blocking()
    try:
        uring(9, s, 0, message(word, packed(far)), 1, 0x20000000)
    except BlockingIOError:
        # Without a cookie of the server's the ring does not wait for the handshake to send more than that.
        s.sendall(word)


@way
def a_socket_that_connects_again():
    own = socket.socket()
    own.bind(("127.0.0.1", 0))
    own.listen()
    s = socket.socket()
    s.connect(own.getsockname())
    failed(libc.connect(s.fileno(), bytes(16), 16))
    say_to(s, far)


def with_option(level, option, value):
    s = socket.socket()
    try_to(s.setsockopt, level, option, value)
    say_to(s, far)


@way
def a_socket_bound_to_a_device():
    with_option(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, b"lo")


@way
def a_socket_with_a_mark():
    with_option(socket.SOL_SOCKET, socket.SO_MARK, 7)


@way
def a_transparent_socket():
    with_option(socket.IPPROTO_IP, socket.IP_TRANSPARENT, 1)


@way
def a_socket_that_binds_to_what_is_not_there():
    s = socket.socket()
    s.setsockopt(socket.IPPROTO_IP, 15, 1)
    s.bind(("127.55.55.55", 0))
    say_to(s, far)


@way
def a_source_route():
    s = socket.socket()
    route = b"\x83\x07\x04" + socket.inet_aton(ip) + b"\x00"
    s.setsockopt(socket.IPPROTO_IP, socket.IP_OPTIONS, route)
    say_to(s, far)


@way
def a_congestion_control_of_its_choice():
    with_option(socket.IPPROTO_TCP, socket.TCP_CONGESTION, b"reno")


@way
def a_port_that_is_shared():
    s = socket.socket()
    s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try_to(s.bind, far)
    try_to(s.listen)
    for _ in range(64):
        try_to(say_to, socket.socket(), far)


@way
def a_thread():
    thread = threading.Thread(target=lambda: try_to(tcp_over_ipv4))
    thread.start()
    thread.join()


@way
def a_child_of_a_child():
    child(lambda: child(tcp_over_ipv4))


@way
def an_orphan():
    # Its parent is somebody outside.
    read, write = os.pipe()

    def inside():
        if os.fork() == 0:
            os.close(read)
            while os.getppid() == parent:
                pass
            try_to(tcp_over_ipv4)
            os._exit(0)

    def first():
        nonlocal parent
        parent = os.getpid()
        inside()

    parent = 0
    child(first)
    os.close(write)
    os.read(read, 1)


@way
def another_program_after_connect():
    s = socket.socket()
    s.setblocking(False)
    s.connect_ex(far)
    os.set_inheritable(s.fileno(), True)
    send = f"import os, select; select.select([], [{s.fileno()}], [], 3); os.write({s.fileno()}, {word!r})"
    child(lambda: os.execv("/usr/bin/python3", ["python3", "-I", "-c", send]))


@way
def a_preloaded_library():
    code = f"import socket; socket.create_connection({far!r}, 3).sendall({word!r})"
    preload = next(line.split()[-1] for line in open("/proc/self/maps") if "libc.so" in line)
    words = ["python3", "-I", "-c", code]
    child(lambda: os.execve("/usr/bin/python3", words, {"LD_PRELOAD": preload}))


def run_file(image):
    file = os.memfd_create("way")
    os.write(file, image)
    child(lambda: os.execve(file, ["way"], {}))


@way
def a_static_program_out_of_memory():
    def move(register, value):
        return bytes([0xB8 + register]) + struct.pack("<I", value)

    call, (eax, edx, esi, edi) = b"\x0f\x05", (0, 2, 6, 7)
    start = move(eax, 41) + move(edi, 2) + move(esi, 1) + b"\x31\xd2" + call + b"\x89\xc7"
    dial = move(edx, 16) + move(eax, 42) + call
    write = move(edx, len(word)) + move(eax, 1) + call
    leave = move(eax, 60) + b"\x31\xff" + call
    size = len(start) + 7 + len(dial) + 7 + len(write) + len(leave)
    # lea rsi, [rip + to the address], and to the word behind it.
    first = b"\x48\x8d\x35" + struct.pack("<i", size - len(start) - 7)
    second = b"\x48\x8d\x35" + struct.pack("<i", size + 16 - len(start) - 7 - len(dial) - 7)
    code = start + first + dial + second + write + leave + packed(far).raw + word
    base, head = 0x400000, 64 + 56
    elf = b"\x7fELF\x02\x01\x01" + bytes(9)
    elf += struct.pack("<HHIQQQIHHHHHH", 2, 62, 1, base + head, 64, 0, 0, 64, 56, 1, 0, 0, 0)
    elf += struct.pack("<IIQQQQQQ", 1, 5, 0, base, base, head + len(code), head + len(code), 4096)
    run_file(elf + code)


@way
def calls_of_another_machine():
    # The same for 32 bits: what it calls has other numbers.
    def move(register, value):
        return bytes([0xB8 + register]) + struct.pack("<I", value)

    call, (eax, ecx, edx, ebx), base, head = b"\xcd\x80", (0, 1, 2, 3), 0x08048000, 52 + 32

    def code(address):
        text = move(eax, 359) + move(ebx, 2) + move(ecx, 1) + b"\x31\xd2" + call + b"\x89\xc3"
        text += move(eax, 362) + move(ecx, address) + move(edx, 16) + call
        text += move(eax, 4) + move(ecx, address + 16) + move(edx, len(word)) + call
        return text + move(eax, 1) + b"\x31\xdb" + call

    text = code(base + head + len(code(0))) + packed(far).raw + word
    elf = b"\x7fELF\x01\x01\x01" + bytes(9)
    elf += struct.pack("<HHIIIIIHHHHHH", 2, 3, 1, base + head, 52, 0, 0, 52, 32, 1, 0, 0, 0)
    elf += struct.pack("<IIIIIIII", 1, 0, base, base, head + len(text), head + len(text), 5, 4096)
    run_file(elf + text)


# UDP.


def datagram(family=socket.AF_INET):
    return socket.socket(family, socket.SOCK_DGRAM)


@way
def udp_by_sendto():
    datagram().sendto(word, gram)


@way
def udp_by_sendmsg():
    datagram().sendmsg([word], [], 0, gram)


@way
def udp_many_at_once():
    each = [message(word, packed(gram)) for _ in range(2)]
    vector = ctypes.create_string_buffer(b"".join(one.raw + bytes(8) for one in each))
    s = datagram()
    failed(libc.sendmmsg(s.fileno(), vector, 2, 0))


@way
def udp_connected():
    s = datagram()
    s.connect(gram)
    s.send(word)


@way
def udp_connected_then_sent_elsewhere():
    own = datagram()
    own.bind(("127.0.0.1", 0))
    s = datagram()
    s.connect(own.getsockname())
    s.sendto(word, gram)


@way
def udp_over_ipv6():
    datagram(socket.AF_INET6).sendto(word, ("::1", gram[1]))


@way
def udp_to_a_mapped_address():
    datagram(socket.AF_INET6).sendto(word, ("::ffff:" + ip, gram[1]))


@way
def udp_to_every_address():
    datagram().sendto(word, ("0.0.0.0", gram[1]))


@way
def udp_to_an_address_of_the_other_family():
    s = datagram(socket.AF_INET6)
    failed(libc.sendto(s.fileno(), word, len(word), 0, packed(gram), 16))


@way
def udp_connected_to_an_address_of_the_other_family():
    s = datagram(socket.AF_INET6)
    failed(libc.connect(s.fileno(), packed(gram), 16))
    s.send(word)


@way
def udp_in_segments():
    s = datagram()
    s.setsockopt(17, 103, len(word))
    s.connect(gram)
    s.send(word * 3)


@way
def udp_with_options():
    s = datagram()
    s.setsockopt(socket.IPPROTO_IP, socket.IP_OPTIONS, b"\x01\x01\x01\x00")
    s.sendto(word, gram)


@way
def udp_without_a_checksum():
    s = datagram()
    s.setsockopt(socket.SOL_SOCKET, 11, 1)
    s.sendto(word, gram)


@way
def udp_by_splice():
    read, write = os.pipe()
    os.write(write, word)
    s = datagram()
    s.connect(gram)
    failed(libc.splice(read, None, s.fileno(), None, len(word), 0))


@way
def io_uring_sends_a_datagram():
    uring(9, datagram(), 0, message(word, packed(gram)), 1, 0)


@way
def io_uring_sends_on_a_connected_socket():
    s = datagram()
    s.connect(gram)
    uring(26, s, 0, ctypes.create_string_buffer(word), len(word), 0)


@way
def quic():
    # The first packet of a connection, of version 1; a client goes back to TCP where it is refused at once.
    first = b"\xc3\x00\x00\x00\x01\x08" + os.urandom(8) + b"\x00\x00\x44\xb0" + word
    datagram().sendto(first + bytes(1200 - len(first)), gram)


@way
def udplite():
    s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM, 136)
    s.sendto(word, gram)


# What is asked, or said that a name is asked for; `far` and `gram` have the port of such servers.


def question():
    label = bytes([len(word)]) + word
    return b"\x12\x34\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00" + label + b"\x07example\x00\x00\x01\x00\x01"


@way
def dns_over_udp():
    datagram().sendto(question(), gram)


@way
def dns_over_tcp():
    s = socket.create_connection(far, 3)
    s.sendall(struct.pack("!H", len(question())) + question())


@way
def dns_over_tls():
    say_to(socket.socket(), far)


@way
def dns_over_quic():
    datagram().sendto(b"\xc3\x00\x00\x00\x01" + word, gram)


@way
def dns_over_https():
    s = socket.create_connection(far, 3)
    s.sendall(b"GET /dns-query?dns=" + word + b" HTTP/1.1\r\n\r\n")


@way
def a_proxy_on_loopback():
    s = socket.create_connection(far, 3)
    s.sendall(b"CONNECT " + word + b".example:443 HTTP/1.1\r\n\r\n")


# Other protocols; `far` hears what is on loopback.


def carried(family, kind, protocol, to, data=None):
    s = socket.socket(family, kind, protocol)
    s.settimeout(3)
    s.sendto(data or word, to)


@way
def ping():
    carried(socket.AF_INET, socket.SOCK_DGRAM, 1, (ip, 0), b"\x08\0\0\0\0\0\0\x01" + word)


@way
def raw_ip():
    carried(socket.AF_INET, socket.SOCK_RAW, 253, (ip, 0))


@way
def raw_ip_with_a_header_of_its_own():
    carried(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW, (ip, 0), datagram_of(253))


@way
def raw_ip_over_ipv6():
    carried(socket.AF_INET6, socket.SOCK_RAW, 253, ("::1", 0))


@way
def raw_icmp():
    carried(socket.AF_INET, socket.SOCK_RAW, 1, (ip, 0), b"\x08\0\0\0\0\0\0\x01" + word)


@way
def raw_tcp():
    carried(socket.AF_INET, socket.SOCK_RAW, 6, (ip, 0), bytes(20) + word)


def datagram_of(protocol):
    whole = socket.inet_aton(ip)
    return struct.pack("!BBHHHBBH4s4s", 0x45, 0, 20 + len(word), 7, 0, 64, protocol, 0, whole, whole) + word


@way
def packets_on_a_device():
    s = socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM)
    s.sendto(datagram_of(253), ("lo", 0x0800))


def streamed(family, kind, protocol, to):
    s = socket.socket(family, kind, protocol)
    say_to(s, to)


@way
def sctp():
    streamed(socket.AF_INET, socket.SOCK_STREAM, 132, far)


@way
def sctp_in_packets():
    carried(socket.AF_INET, socket.SOCK_SEQPACKET, 132, far)


@way
def dccp():
    streamed(socket.AF_INET, 6, 33, far)


@way
def l2tp():
    carried(socket.AF_INET, socket.SOCK_DGRAM, 115, far)


@way
def smc():
    streamed(43, socket.SOCK_STREAM, 0, far)


@way
def vsock():
    streamed(socket.AF_VSOCK, socket.SOCK_STREAM, 0, (1, far[1]))


# Namespaces and cgroups.


@way
def a_user_namespace():
    apart(NEWUSER, tcp_over_ipv4)


@way
def a_cgroup_namespace():
    apart(NEWUSER | NEWCGROUP | NEWNS, tcp_over_ipv4)


@way
def a_socket_taken_along_into_a_network_namespace():
    s = socket.socket()
    apart(NEWUSER | NEWNET, lambda: say_to(s, far))


@way
def a_network_namespace_that_is_left_again():
    host = os.open("/proc/self/ns/net", os.O_RDONLY)

    def inside():
        failed(libc.unshare(NEWNET))
        failed(libc.setns(host, NEWNET))
        tcp_over_ipv4()

    child(inside)


@way
def a_network_stack_of_its_own():
    # As slirp does it: a device in a namespace of its own, and who reads it dials outside for what it hears.
    ours, theirs = socket.socketpair()

    def inside():
        device = os.open("/dev/net/tun", os.O_RDWR)
        import fcntl

        fcntl.ioctl(device, 0x400454CA, struct.pack("16sH22x", b"out0", 0x1001))
        socket.send_fds(theirs, [b"x"], [device])
        s = datagram()
        # SIOCSIFADDR, SIOCSIFNETMASK, SIOCSIFFLAGS: 10.0.2.1/24, up.
        for code, value in [(0x8916, "10.0.2.1"), (0x891C, "255.255.255.0")]:
            body = struct.pack("16sH2x4s8x", b"out0", socket.AF_INET, socket.inet_aton(value))
            fcntl.ioctl(s, code, body)
        fcntl.ioctl(s, 0x8914, struct.pack("16sH14x", b"out0", 1))
        s.sendto(word, ("10.0.2.2", 9))

    outside = socket.socket()
    try:
        apart(NEWUSER | NEWNET, inside)
        _, fds, _, _ = socket.recv_fds(ours, 1, 1)
        os.set_blocking(fds[0], False)
        heard = b""
        while word not in heard:
            if not select.select([fds[0]], [], [], 3)[0]:
                raise OSError("nothing came out of the device")
            heard = os.read(fds[0], 2048)
    except OSError as error:
        say("without a device:", repr(error))
        heard = word
    say_to(outside, far)


@way
def a_cgroup_below():
    mount = [line.split()[4] for line in open("/proc/self/mountinfo") if " - cgroup2 " in line][0]
    mine = [line for line in open("/proc/self/cgroup") if line.startswith("0::")][0][3:].strip()
    below = mount + mine + "/below"
    try_to(os.mkdir, below)

    def inside():
        try_to(lambda: open(below + "/cgroup.procs", "w").write("0"))
        tcp_over_ipv4()

    try:
        child(inside)
    finally:
        try_to(os.rmdir, below)


# Between processes: `place` is a directory of somebody outside, who waits at the socket `accomplice` in it.


def accomplice():
    s = socket.socket(socket.AF_UNIX)
    s.settimeout(3)
    s.connect(place + "/accomplice")
    return s


@way
def a_unix_socket_of_somebody_outside():
    accomplice().sendall(word)


@way
def a_unix_socket_by_a_link():
    os.symlink(place + "/accomplice", place + "/link-" + str(os.getpid()))
    s = socket.socket(socket.AF_UNIX)
    s.connect(place + "/link-" + str(os.getpid()))
    s.sendall(word)


@way
def a_unix_datagram():
    socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM).sendto(word, place + "/letters")


@way
def a_socket_taken_from_a_neighbour():
    # Behind the others: the neighbour's number, and the socket's.
    neighbour = os.pidfd_open(int(sys.argv[7]))
    os.write(failed(libc.syscall(438, neighbour, int(sys.argv[8]), 0)), word)


@way
def a_socket_handed_out():
    # Whoever gets it dials with it.
    s = socket.socket()
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(place + "/handed")
    os.chmod(place + "/handed", 0o777)
    listener.listen()
    listener.settimeout(10)
    say("ready")
    other, _ = listener.accept()
    socket.send_fds(other, [b"x"], [s.fileno()])
    other.recv(1)


@way
def a_connected_socket_handed_in():
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(place + "/wanted")
    os.chmod(place + "/wanted", 0o777)
    listener.listen()
    listener.settimeout(10)
    say("ready")
    other, _ = listener.accept()
    _, fds, _, _ = socket.recv_fds(other, 1, 1)
    os.write(fds[0], word)


def tried():
    try:
        ways[name]()
        say("tried")
    except Exception as error:
        say("failed", repr(error))
