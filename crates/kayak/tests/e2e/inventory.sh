#!/bin/sh
# Lists what there is on this machine, by plain tools that know nothing of kayak; one section a tool.
# The arguments are directories that do not count: kayak's cache, and the tests' own directory.
#
# Left out is what changes by itself: counters, life times of addresses and routes, and what a
# running system writes in /var/log, /var/cache, /var/tmp and /var/lib/systemd.
set -eu
export LC_ALL=C

section() {
    echo "== $1"
}

section mounts
findmnt --raw --noheadings --output TARGET,SOURCE,FSTYPE,OPTIONS | sort

for list in link addr rule "-6 rule" "-4 route show table all" "-6 route show table all"; do
    section "ip $list"
    # shellcheck disable=SC2086 # a list of words
    ip -json $list | sed -E 's/"(valid_life_time|preferred_life_time|expires)": ?[0-9]+,?//g; s/\},\{/},\n{/g'
done

section nft
nft --stateless list ruleset

section files
set -- "$@" /var/log /var/cache /var/tmp /var/lib/systemd
for directory in "$@"; do
    set -- "$@" -o -path "$directory"
    shift
done
# A directory's size and times tell of files that came and went.
find /etc /usr /opt /var /run \( -false "$@" \) -prune -o \
    -type d -printf '%p %y %m %U %G\n' -o -printf '%p %y %m %U %G %s %l\n' | sort

section namespaces
lsns --raw --noheadings --type net --output NS,TYPE | sort

section "control groups"
# What other programs have below groups of their own comes and goes.
find /sys/fs/cgroup -type d \( -path '*kayak*' -o -not -path '/sys/fs/cgroup/*/*/*' \) | sort

section settings
# Those that are measurements, not settings.
sysctl --all 2>/dev/null | grep -E '^(fs.inotify|kernel|net|vm)\.' |
    grep -vE '^(kernel\.(ns_last_pid|random|pty\.nr)|net\.netfilter)' | sort

section processes
# Whatever runs in a control group of kayak's, and by name whatever only a cluster runs; the dead
# are listed until whoever is first on the machine fetches them.
ps -e -o pid=,stat=,comm=,cgroup= | awk '
    $2 ~ /^Z/ { next }
    $4 ~ /\/kayak\// || $3 ~ /^(kubelet|containerd|runc|etcd|hyperkube|coredns|flanneld|kube-)/ { print $1, $3 }
' | sort
