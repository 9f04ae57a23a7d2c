# The first process of kubeadm's node: what kayak's agent does for its own, and what systemd would do
# for containerd and the kubelet. It asks for the kubelet's files ten times a second, where kubeadm's
# unit for systemd would try every ten seconds. Called with the node's address and name, then the pods' range
# and the address of each other node.
set -eu
mount --make-rshared /
address=$1 name=$2
shift 2
while [ $# -gt 0 ]; do
    ip route add "$1" via "$2"
    shift 2
done
printf '127.0.0.1\tlocalhost\n%s\t%s\n' "$address" "$name" > /etc/hosts
tr -d - < /proc/sys/kernel/random/uuid > /etc/machine-id
# CoreDNS refuses to start without a name server to forward to; nobody answers at this one.
echo nameserver 192.0.2.53 > /etc/resolv.conf
for setting in ip_forward=1 conf/all/rp_filter=0 conf/default/rp_filter=0; do
    echo "${setting#*=}" > "/proc/sys/net/ipv4/${setting%=*}"
done
[ -e /dev/kmsg ] || mknod /dev/kmsg c 1 11
# On the second version of control groups a group has either processes or controllers for others.
if [ -e /sys/fs/cgroup/cgroup.subtree_control ]; then
    mkdir -p /sys/fs/cgroup/init
    while read -r pid; do echo "$pid" > /sys/fs/cgroup/init/cgroup.procs || true; done < /sys/fs/cgroup/cgroup.procs
    sed 's/\</+/g' /sys/fs/cgroup/cgroup.controllers > /sys/fs/cgroup/cgroup.subtree_control
fi
mkdir -p /var/log /var/lib/kubelet
containerd --config /etc/kubernetes/containerd/config.toml > /var/log/containerd.log 2>&1 &
{
    until cat /etc/kubernetes/*kubelet.conf > /dev/null 2>&1 && [ -s /var/lib/kubelet/config.yaml ]; do sleep 0.1; done
    exec kubelet --config=/var/lib/kubelet/config.yaml --kubeconfig=/etc/kubernetes/kubelet.conf \
        --bootstrap-kubeconfig=/etc/kubernetes/bootstrap-kubelet.conf \
        --hostname-override="$name" --node-ip="$address" > /var/log/kubelet.log 2>&1
} &
trap 'kill $(jobs -p); exit 0' TERM
wait
