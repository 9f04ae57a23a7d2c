# Imports the images on its standard input into the containerd root at /var/lib/containerd. It runs
# in a container of the node image; its arguments are pairs of an image's name and its ID.
#
# Both names, and the labels, are what containerd's CRI part would add to an image when it first
# sees it (UpdateImage in internal/cri/server/images/image_pull.go), in every node; "pinned" keeps
# the kubelet from collecting images that nothing could be pulled again from.
set -eu
ctr() { command ctr --namespace k8s.io images "$@"; }
cat > /run/containerd.toml <<'END'
version = 3
disabled_plugins = [
    "io.containerd.cri.v1.images",
    "io.containerd.cri.v1.runtime",
    "io.containerd.grpc.v1.cri",
    "io.containerd.internal.v1.opt",
    "io.containerd.monitor.container.v1.restart",
    "io.containerd.nri.v1.nri",
]
END
exec 3< <(exec containerd --config /run/containerd.toml 2>&1)
containerd=$!
# It listens before it says so; ctr does not wait for the socket.
while read -r line <&3; do
    echo "$line"
    [[ $line == *"successfully booted"* ]] && break
done
cat <&3 &
ctr import --snapshotter overlayfs \
    --label io.cri-containerd.image=managed --label io.cri-containerd.pinned=pinned -
while [ $# -gt 0 ]; do
    ctr tag --local "$1" "$2"
    shift 2
done
kill $containerd
wait $containerd
