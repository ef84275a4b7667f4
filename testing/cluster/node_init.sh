#!/bin/bash
# PID 1 of the real node, in fresh mount, net, pid, uts, ipc and cgroup namespaces. Nothing that it does shows outside.
#   node_init.sh STATE ADDRESS/PREFIX
set -e
state=$1 address=$2
mount --make-rprivate /

# The cgroup namespace's root is the node's own cgroup in every hierarchy.
mount -t sysfs sysfs /sys 2>/dev/null || true
if [ -e "$state/unified" ]; then
    mount -t cgroup2 cgroup2 /sys/fs/cgroup
    mkdir -p /sys/fs/cgroup/system
    echo $$ >/sys/fs/cgroup/system/cgroup.procs
else
    mount -t tmpfs -o mode=755,size=1m cgroup /sys/fs/cgroup
    while read -r controller; do
        mkdir "/sys/fs/cgroup/$controller"
        case $controller in
        systemd) mount -t cgroup -o none,name=systemd cgroup /sys/fs/cgroup/systemd ;;
        *) mount -t cgroup -o "$controller" cgroup "/sys/fs/cgroup/$controller" ;;
        esac
    done <"$state/hierarchies"
fi

# Folders that a node's programs write to are private copies.
for folder in var/lib/kubelet var/lib/containerd var/log var/lib/cni etc/cni etc/containerd run tmp/hostpath_pv; do
    mkdir -p "$state/fs/$folder" "/$folder"
    mount --bind "$state/fs/$folder" "/$folder"
done
mkdir -p /run/netns /run/lock /var/log/pods /var/log/containers /etc/cni/net.d
# It may be a link into /run, whose target the private copy hides.
resolv=$(readlink -m /etc/resolv.conf)
[ -e "$resolv" ] || { mkdir -p "$(dirname "$resolv")" && touch "$resolv"; }
mount --bind "$state/resolv.conf" "$resolv"

# The kubelet insists on these settings and would change the machine's: files of the node's own stand in their place.
for setting in vm/overcommit_memory=1 vm/panic_on_oom=0 kernel/panic=10 kernel/panic_on_oops=1 \
    kernel/keys/root_maxkeys=1000000 kernel/keys/root_maxbytes=25000000; do
    file=$state/sysctl-$(tr / - <<<"${setting%=*}")
    echo "${setting#*=}" >"$file"
    mount --bind "$file" "/proc/sys/${setting%=*}"
done
mount --make-rshared /

# No link leads to the machine: an empty bridge holds the node's address and the default route.
hostname node-1
ip link set lo up
ip link add eth0 type bridge
ip address add "$address" dev eth0
ip link set eth0 up
ip route add default dev eth0
sysctl -qw net.ipv4.ip_forward=1 net.ipv4.conf.all.route_localnet=1 || true
touch "$state/node.ready"

# kube-controller-manager makes a hostPath volume for root alone, and hostPath knows no fsGroup: open it to any pod.
while :; do
    chmod -f 0777 /tmp/hostpath_pv/* || true
    sleep 0.5 &
    wait $! || true
done
