# shellcheck shell=bash disable=SC2034,SC2154
# Settings and helpers of the rig, sourced by every script here.
# Each TOLLGATE_RIG_* variable can be set from outside; README.md lists them.
rig=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)

# fail CODE MESSAGE...
fail() { local code=$1; shift; printf 'rig: %s\n' "$@" >&2; exit "$code"; }

# require TOOL...: stops before anything is touched if the rig cannot work here.
require() {
  local hint="Against a cluster of your own, set KUBECONFIG and leave the rig out."
  [ "$(uname -s)" = Linux ] || fail 2 "the rig needs Linux (namespaces and cgroups)." "$hint"
  [ "$(id -u)" = 0 ] || fail 2 "the rig needs root (namespaces, mounts, cgroups); run it with sudo." "$hint"
  local tool missing=()
  for tool; do command -v "$tool" >/dev/null || missing+=("$tool: $(provider "$tool")"); done
  [ ${#missing[@]} = 0 ] || fail 2 "missing tools; nothing was started:" "${missing[@]/#/  }"
}
provider() {
  case $1 in
    go) echo "Go 1.26 or newer (Debian's golang-go is older; Go 1.21 and newer fetch 1.26 themselves)" ;;
    nsenter | unshare | setsid | flock | mountpoint) echo "Debian package util-linux" ;;
    dpkg | apt-get) echo "only on Debian and its kin (packages dpkg, apt)" ;;
    ip) echo "Debian package iproute2" ;;
    *) echo "Debian package $1" ;;
  esac
}

: "${TOLLGATE_RIG_CACHE:=${XDG_CACHE_HOME:-${HOME:-/tmp}/.cache}/tollgate-rig}"
: "${TOLLGATE_RIG_STATE:=$rig/.state}"
TOLLGATE_RIG_CACHE=$(realpath -m "$TOLLGATE_RIG_CACHE")
TOLLGATE_RIG_STATE=$(realpath -m "$TOLLGATE_RIG_STATE")
export TOLLGATE_RIG_CACHE TOLLGATE_RIG_STATE
cache=$TOLLGATE_RIG_CACHE state=$TOLLGATE_RIG_STATE
# Init puts private mounts on these; what lies beneath would be out of sight.
for where in "$cache" "$state" "$rig"; do
  case $where in
    /run/* | /var/run/* | /var/lib/* | /var/log/* | /proc/* | /sys/*)
      fail 2 "$where cannot be used: the rig mounts its own /run, /var/lib and /var/log." \
        "Set TOLLGATE_RIG_CACHE and TOLLGATE_RIG_STATE (or clone) elsewhere." ;;
  esac
done
# Names the rig's branch of the machine's cgroups, the one thing rigs share.
cgroup=tollgate-rig-$(sha256sum <<<"$state" | cut -c1-8)

# Every rig has a network of its own without a route out, so all of them use
# the same addresses, taken from the range reserved for benchmarks.
node_ip=198.18.0.1
pod_cidr=198.18.16.0/24
service_cidr=198.18.32.0/24
kubernetes_ip=198.18.32.1
pause_image=registry.k8s.io/pause:rig
[ -z "${IN_RIG-}" ] || export KUBECONFIG=$state/pki/admin.kubeconfig

# alive NAME: whether the process noted in the file NAME of the state still
# runs. A process id alone may have
# passed to another process; with its start time it is one of a kind.
alive() {
  local pid started
  read -r pid started 2>/dev/null < "$state/$1" || return 1
  [ "$(start_time "$pid")" = "$started" ]
}
# Field 22 of stat, counted from behind the name, which may hold spaces.
start_time() { sed 's/.*) //' "/proc/$1/stat" 2>/dev/null | cut -d' ' -f20; }

# until_ok SECONDS CMD...: polls until the command succeeds, or gives up. Counts
# its own pauses: on a machine that was suspended the clock would be wrong.
until_ok() {
  local left=$(($1 * 10)); shift
  until "$@" >/dev/null 2>&1; do
    [ $((left -= 1)) -gt 0 ] || { echo "gave up waiting for: $*" >&2; return 1; }
    sleep 0.1
  done
}
