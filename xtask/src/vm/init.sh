#!/bin/sh
# The first process of a machine: runs the kernel tier, says what came of it, and leaves the machine to systemd.
export PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/root
mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t devtmpfs dev /dev 2> /dev/null
mkdir -p /dev/pts /dev/shm
mount -t devpts devpts /dev/pts
mount -t tmpfs shm /dev/shm
mount -t tmpfs run /run
mount -t tmpfs tmp /tmp
mount -t bpf bpf /sys/fs/bpf
mount -t cgroup2 cgroup2 /sys/fs/cgroup
mount -t securityfs none /sys/kernel/security

echo "vm: release $(uname -r)"
feature() {
    name=$1
    shift
    if "$@" > /dev/null 2>&1; then echo "vm: feature $name yes"; else echo "vm: feature $name no"; fi
}
symbol() { grep -q " $1\$" /proc/kallsyms; }
feature BTF test -e /sys/kernel/btf/vmlinux
feature set_retval symbol bpf_set_retval
feature connect_unix symbol bpf_sock_addr_set_sun_path
feature landlock grep -q landlock /sys/kernel/security/lsm
feature bpf-lsm grep -q bpf /sys/kernel/security/lsm
feature mptcp test -e /proc/sys/net/mptcp

# A way out that leads nowhere: tests want a device beside loopback.
depmod -a
for module in dummy veth tun vsock sctp; do modprobe -q "$module"; done
ip link set lo up
ip link add beside type dummy
ip addr add 10.99.0.2/24 dev beside
ip -6 addr add fd99::2/64 dev beside nodad
ip link set beside up
ip route add default via 10.99.0.1
ip -6 route add default via fd99::1

cd /tier/tests
filters=$(tr ' ' '\n' < /proc/cmdline | sed -n 's/^tests=//p' | tr , ' ')
# shellcheck disable=SC2086
INTERCEPTOR_WORKSPACE=/tier INTERCEPTOR_BIN=/tier/interceptor RUST_BACKTRACE=0 /tier/kernel --color never $filters 2>&1
code=$?
echo "vm: tier $code"
case " $filters " in
    "  " | *" service "*) ;;
    *)
        echo "vm: ended $code"
        sync
        echo o > /proc/sysrq-trigger
        sleep 60
        ;;
esac

# The rest is under a system manager. Services have root file systems of their own, which are made of one that can be
# moved; the archive's cannot.
mkdir /new
mount -t tmpfs -o size=80% new /new
for part in /*; do
    case $part in
        /proc | /sys | /dev | /run | /tmp | /new | /init) ;;
        *) cp -a "$part" /new ;;
    esac
done
mkdir -p /new/proc /new/sys /new/dev /new/run /new/tmp /new/etc/systemd/system/multi-user.target.wants
echo "$code" > /new/tier/code
cp /tier/service/tier.service /new/etc/systemd/system
ln -s ../tier.service /new/etc/systemd/system/multi-user.target.wants
umount /sys/fs/cgroup
exec switch_root /new /lib/systemd/systemd --unit=multi-user.target
echo "vm: ended 127"
