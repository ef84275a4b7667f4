#!/bin/bash
# Run a command on a machine that is cut off: `cut-off.sh WORK COMMAND...`, in namespaces of its own (see air_gap.py).
# There is an interface and a default route, so that whatever wants out gets as far as the counters and is dropped
# there; without a route it would fail before anybody could count it. Names are asked of a server that is out there.
set -eu
work=$1
shift
mount --make-rprivate /
mount -t tmpfs tmpfs /dev/shm
echo "nameserver 192.0.2.53" >"$work/resolv.conf"
mount --bind "$work/resolv.conf" "$(readlink -f /etc/resolv.conf)"

# A machine without libpython: its file and its line in the loader's cache disappear.
library=$(ls /usr/lib/*-linux-gnu/libpython3.*.so.1.0 2>/dev/null | head -1 || true)
if [ -n "$library" ]; then
    mkdir "$work/over" && mount -t tmpfs tmpfs "$work/over" && mkdir "$work/over/upper" "$work/over/work"
    mknod "$work/over/upper/${library##*/}" c 0 0
    folder=${library%/*}
    mount -t overlay overlay -o "lowerdir=$folder,upperdir=$work/over/upper,workdir=$work/over/work" "$folder"
    ldconfig -C "$work/ld.so.cache" && mount --bind "$work/ld.so.cache" /etc/ld.so.cache
fi

ip link set lo up
ip link add out0 type veth peer name sink0
ip link set out0 up && ip link set sink0 up
ip address add 192.0.2.2/24 dev out0
for neighbour in 192.0.2.1 192.0.2.53; do ip neighbour add $neighbour lladdr 02:00:00:00:00:01 dev out0; done
ip route add default via 192.0.2.1
if ip -6 address add 2001:db8::2/64 dev out0 nodad 2>/dev/null; then
    ip neighbour add 2001:db8::1 lladdr 02:00:00:00:00:01 dev out0
    ip -6 route add default via 2001:db8::1
fi
nft -f - <<'RULES'
table inet cut_off {
  counter names { }
  counter connections { }
  chain out {
    type filter hook output priority 0; policy accept;
    oifname "lo" accept
    meta l4proto { tcp, udp } th dport 53 counter name names drop
    meta l4proto { tcp, udp } counter name connections drop
  }
}
RULES
code=0
"$@" || code=$?
nft --json list counters table inet cut_off >"$work/counters.json"
exit $code
