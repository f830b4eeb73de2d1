# shellcheck shell=bash disable=SC2034,SC2154
# What the rig is made of: which parts each level needs, where each one is in
# the cache, and how it is built. Sourced by build and up after env.sh.

# components LEVEL
components() {
  local core="etcd kube-apiserver kube-controller-manager kubectl crds prometheus"
  local node="$core kube-scheduler kubelet kube-proxy debian demo-app"
  case $1 in
    core) echo "$core" ;;
    node) echo "$node" ;;
    all) echo "$node traefik alertmanager" ;;
    *) return 1 ;;
  esac
}

# Not pinned: a Debian mirror holds one version of each. Unpacked, never installed.
# Those behind containernetworking-plugins are nft and the libraries it loads.
debian_packages="containerd runc containernetworking-plugins nftables libnftables1 libnftnl11
  libmnl0 libjansson4 libxtables12 libedit2 libbsd0 libmd0"

# Seconds on two idle cores with empty caches, each after those before it.
declare -A expected=(
  [etcd]=60 [kube-apiserver]=150 [kube-controller-manager]=50 [kubectl]=25 [crds]=5 [prometheus]=150
  [kube-scheduler]=8 [kubelet]=20 [kube-proxy]=8 [debian]=15 [demo-app]=10 [traefik]=240 [alertmanager]=60
  [rollouts-controller]=120 [rollouts-crds]=5 [helm]=70 [kustomize-controller]=270 [helm-controller]=30 [flux-crds]=5
  [neighbours]=150)

# module COMPONENT: the directory of the go.mod that pins it.
module() {
  case $1 in
    kustomize-controller | helm-controller | flux-crds) echo "$rig/flux" ;;
    etcd | kube*) echo "$rig/tools" ;;
    traefik | crds) echo "$rig/gateway" ;;
    prometheus | alertmanager) echo "$rig/monitoring" ;;
    demo-app) echo "$rig/../demo-app" ;;
    rollouts*) echo "$rig/argo" ;;
    helm) echo "$rig/helm" ;;
    neighbours) echo "$rig/../neighbours" ;;
  esac
}

# flags COMPONENT: one argument of go build a line, the package last.
flags() {
  local version
  case $1 in
    etcd) printf '%s\n' -ldflags "-s -w" go.etcd.io/etcd/server/v3 ;;
    kube*)
      version=$(awk '$1 == "k8s.io/kubernetes" {print $2}' "$rig/tools/go.mod")
      local stamp="-X k8s.io/component-base/version.gitVersion=$version"
      stamp+=" -X k8s.io/component-base/version.gitMajor=1 -X k8s.io/component-base/version.gitMinor=$(cut -d. -f2 <<<"$version")"
      printf '%s\n' -ldflags "-s -w $stamp" "k8s.io/kubernetes/cmd/$1" ;;
    traefik) printf '%s\n' -ldflags "-s -w" github.com/traefik/traefik/v3/cmd/traefik ;;
    # Of all service discoveries only Kubernetes' and files'.
    prometheus) printf '%s\n' -tags remove_all_sd,enable_kubernetes_sd -ldflags "-s -w" github.com/prometheus/prometheus/cmd/prometheus ;;
    alertmanager) printf '%s\n' -ldflags "-s -w" github.com/prometheus/alertmanager/cmd/alertmanager ;;
    rollouts-controller) printf '%s\n' -ldflags "-s -w" github.com/argoproj/argo-rollouts/cmd/rollouts-controller ;;
    helm) printf '%s\n' -ldflags "-s -w" helm.sh/helm/v4/cmd/helm ;;
    kustomize-controller | helm-controller) printf '%s\n' -ldflags "-s -w" "github.com/fluxcd/$1" ;;
  esac
}

# location COMPONENT: its directory in the cache, named by everything it is made from,
# so that clones share it and a change of one module leaves the others alone.
location() {
  local hash
  hash=$({
    echo "3 $(uname -m)"   # raise the number when a recipe in build changes
    case $1 in
      # The distribution's release says which versions; a mirror's updates do not count.
      debian) grep -hE '^(ID|VERSION_ID)=' /etc/os-release; echo "$debian_packages" ;;
      crds) grep -w sigs.k8s.io/gateway-api "$rig/gateway/go.mod" ;;
      rollouts-crds) grep -w '^require github.com/argoproj/argo-rollouts' "$rig/argo/go.mod" ;;
      # What the tests apply beside them is no part of the programs.
      kustomize-controller | helm-controller) flags "$1"; cat "$rig/flux/go.mod" "$rig/flux/go.sum" | sha256sum ;;
      # Its tests are no part of it.
      rollouts-controller) flags "$1"; cat "$rig/argo/go.mod" "$rig/argo/go.sum" | sha256sum ;;
      *) flags "$1"; (cd "$(module "$1")" && find . -type f -print0 | sort -z | xargs -0 sha256sum) ;;
    esac
  } | sha256sum | cut -c1-16)
  echo "$cache/$1-$hash"
}
