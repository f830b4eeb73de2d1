# shellcheck shell=bash disable=SC2034,SC2154
# How each program of the rig is started. Sourced by init, and so run inside
# the rig's namespaces.
pki=$state/pki conf=$state/conf

# run NAME CMD...: in the background, with a log of its own. Its process id, in the rig's own
# numbering, is noted in run/NAME.
run() {
  local name=$1; shift
  "$@" > "$state/log/$name.log" 2>&1 < /dev/null &
  echo $! > "$state/run/$name"
}

apiserver_ready() { curl -sf --cacert "$pki/ca.crt" --cert "$pki/admin.crt" --key "$pki/admin.key" "https://$node_ip:6443/readyz"; }

start_control_plane() {
  # What is written is lost with the rig anyway: no need to wait for the disk.
  run etcd etcd --data-dir "$state/lib/etcd" --unsafe-no-fsync --log-level warn \
    --listen-client-urls http://127.0.0.1:2379 --advertise-client-urls http://127.0.0.1:2379 \
    --listen-peer-urls http://127.0.0.1:2380 --initial-advertise-peer-urls http://127.0.0.1:2380 \
    --initial-cluster default=http://127.0.0.1:2380

  # The audit log is there to count requests by: one line for every request
  # when it is done, without those of the rig's own parts. Blocking mode, since
  # the buffered one may drop lines.
  cat > "$conf/audit.yaml" <<Y
apiVersion: audit.k8s.io/v1
kind: Policy
omitStages: [RequestReceived, ResponseStarted, Panic]
omitManagedFields: true
rules:
  - level: None
    users: ["system:apiserver", "system:kube-controller-manager", "system:kube-scheduler", "system:kube-proxy", "rig:gateway", "rig:prometheus"]
  - level: None
    userGroups: ["system:nodes", "system:serviceaccounts:kube-system"]
  - level: None
    nonResourceURLs: ["/readyz*", "/livez*", "/healthz*", "/version"]
  - level: Metadata
Y
  run apiserver kube-apiserver --etcd-servers=http://127.0.0.1:2379 \
    --advertise-address="$node_ip" --secure-port=6443 --service-cluster-ip-range="$service_cidr" \
    --client-ca-file="$pki/ca.crt" --tls-cert-file="$pki/apiserver.crt" --tls-private-key-file="$pki/apiserver.key" \
    --kubelet-client-certificate="$pki/apiserver-kubelet.crt" --kubelet-client-key="$pki/apiserver-kubelet.key" \
    --kubelet-certificate-authority="$pki/ca.crt" --kubelet-preferred-address-types=InternalIP \
    --service-account-issuer="https://$node_ip:6443" --service-account-key-file="$pki/sa.pub" \
    --service-account-signing-key-file="$pki/sa.key" \
    --authorization-mode=Node,RBAC --enable-admission-plugins=NodeRestriction --profiling=false \
    --audit-policy-file="$conf/audit.yaml" --audit-log-path="$state/log/audit.log" --audit-log-mode=blocking \
    --audit-log-maxsize=1000
}

start_controllers() {
  run controller-manager kube-controller-manager --kubeconfig="$pki/controller-manager.kubeconfig" \
    --kube-api-qps="${TOLLGATE_RIG_CONTROLLER_QPS:-20}" --kube-api-burst="${TOLLGATE_RIG_CONTROLLER_QPS:-30}" \
    --leader-elect=false --use-service-account-credentials --root-ca-file="$pki/ca.crt" \
    --service-account-private-key-file="$pki/sa.key" --profiling=false
}

# deb CMD...: with what the unpacked Debian packages hold.
deb() {
  PATH=$PATH:$state/debian/usr/sbin:$state/debian/usr/bin \
    LD_LIBRARY_PATH=$(echo "$state"/debian/usr/lib/*-linux-gnu) "$@"
}

start_runtime() {
  mkdir -p "$conf/cni"
  cat > "$conf/containerd.toml" <<T
version = 2
root = "/var/lib/containerd"
state = "/run/containerd"
[grpc]
  address = "/run/containerd/containerd.sock"
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "$pause_image"
  restrict_oom_score_adj = true   # lowering it needs CAP_SYS_RESOURCE
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "$state/debian/usr/lib/cni"
    conf_dir = "$conf/cni"
  [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
    runtime_type = "io.containerd.runc.v2"
    [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
      BinaryName = "$state/debian/usr/sbin/runc"
T
  # Point to point, not a bridge: on one bridge, answers would skip the
  # translation of Service addresses.
  cat > "$conf/cni/10-rig.conflist" <<J
{"cniVersion": "1.0.0", "name": "rig", "plugins": [
  {"type": "ptp", "ipam": {"type": "host-local", "ranges": [[{"subnet": "$pod_cidr"}]],
   "routes": [{"dst": "198.18.0.0/15"}], "dataDir": "/run/cni"}}]}
J
  run containerd deb containerd --config "$conf/containerd.toml"
}

# Pods get a branch of the machine's cgroups that carries the rig's name;
# down removes it.
make_cgroup() {
  local root
  if [ -e /sys/fs/cgroup/cgroup.controllers ]; then   # version 2
    mkdir -p "/sys/fs/cgroup/$cgroup"
    local controller controllers
    read -ra controllers < /sys/fs/cgroup/cgroup.controllers
    for controller in "${controllers[@]}"; do
      for root in /sys/fs/cgroup "/sys/fs/cgroup/$cgroup"; do
        echo "+$controller" 2>/dev/null > "$root/cgroup.subtree_control" || true
      done
    done
    return
  fi
  for root in /sys/fs/cgroup/*/; do
    mountpoint -q "$root" || continue
    mkdir -p "$root/$cgroup"
    local f
    for f in cpuset.cpus cpuset.mems; do
      [ ! -e "$root/$f" ] || cat "$root/$f" > "$root/$cgroup/$f"
    done
  done
}

start_node() {
  run scheduler kube-scheduler --kubeconfig="$pki/scheduler.kubeconfig" --leader-elect=false
  until_ok 20 deb ctr -n k8s.io version
  local archive
  for archive in "$state"/demo-app/*.tar; do deb ctr -n k8s.io images import "$archive"; done > "$state/log/images.log"
  make_cgroup
  cat > "$conf/kubelet.yaml" <<Y
apiVersion: kubelet.config.k8s.io/v1beta1
kind: KubeletConfiguration
address: $node_ip
containerRuntimeEndpoint: unix:///run/containerd/containerd.sock
cgroupDriver: cgroupfs
cgroupRoot: /$cgroup
failCgroupV1: false
failSwapOn: false
oomScoreAdj: 0
clusterDomain: cluster.local
resolvConf: ""
volumePluginDir: $state/lib/volume-plugins
tlsCertFile: $pki/kubelet.crt
tlsPrivateKeyFile: $pki/kubelet.key
authentication: {anonymous: {enabled: false}, webhook: {enabled: true}, x509: {clientCAFile: $pki/ca.crt}}
authorization: {mode: Webhook}
evictionHard: {memory.available: 100Mi, nodefs.available: 1%, imagefs.available: 1%}
imageGCHighThresholdPercent: 100
nodeStatusUpdateFrequency: 5s
syncFrequency: 10s
Y
  run kubelet deb kubelet --config="$conf/kubelet.yaml" --kubeconfig="$pki/kubelet.kubeconfig" \
    --root-dir=/var/lib/kubelet --cert-dir="$pki" --hostname-override=rig --node-ip="$node_ip"
  # maxPerCore 0: leaves the machine's connection tracking limits alone.
  cat > "$conf/proxy.yaml" <<Y
apiVersion: kubeproxy.config.k8s.io/v1alpha1
kind: KubeProxyConfiguration
mode: nftables
hostnameOverride: rig
clientConnection: {kubeconfig: $pki/proxy.kubeconfig}
clusterCIDR: $pod_cidr
conntrack: {maxPerCore: 0}
healthzBindAddress: $node_ip:10256
Y
  run proxy deb kube-proxy --config="$conf/proxy.yaml"
}

start_gateway() {
  kubectl wait --for=condition=Established --timeout=30s -f "$state/crds/" >> "$state/log/crds.log"
  kubectl apply --server-side -f "$rig/manifests/access.yaml" -f "$rig/manifests/gateway.yaml" > "$state/log/gateway.log"
  # It sends to the addresses of ready pods (nativeLB, off by default, would
  # send to the Service's): no reply is lost in the moment kube-proxy needs.
  KUBECONFIG=$pki/gateway.kubeconfig run traefik traefik --global.checknewversion=false --global.sendanonymoususage=false \
    --entrypoints.web.address="$node_ip:8000" --entrypoints.metrics.address="$node_ip:8082" --ping=true --ping.entrypoint=metrics \
    --providers.kubernetesgateway=true --providers.kubernetesgateway.statusaddress.ip="$node_ip" \
    --providers.providersthrottleduration="${TOLLGATE_RIG_GATEWAY_THROTTLE:-100ms}" \
    --metrics.prometheus=true --metrics.prometheus.entrypoint=metrics --metrics.prometheus.addserviceslabels=true \
    --metrics.prometheus.buckets=0.005,0.01,0.025,0.05,0.1,0.25,0.5,1,2.5
}

start_monitoring() {
  local interval=${TOLLGATE_RIG_SCRAPE_INTERVAL:-1s}
  mkdir -p "$conf/prometheus-targets.d" "$conf/prometheus-rules.d"
  cat > "$conf/prometheus.yaml" <<Y
global: {scrape_interval: $interval, evaluation_interval: $interval}
rule_files: ["$conf/prometheus-rules.d/*.yaml"]
scrape_configs:
  - job_name: files
    file_sd_configs: [{files: ["$conf/prometheus-targets.d/*.json"], refresh_interval: 1s}]
    fallback_scrape_protocol: PrometheusText0.0.4   # a simple test server sends no content type
Y
  if [ "$level" = all ]; then
    cat >> "$conf/prometheus.yaml" <<Y
  - job_name: gateway
    static_configs: [{targets: ["$node_ip:8082"]}]
  - job_name: pods
    kubernetes_sd_configs:
      - role: pod
        api_server: https://$node_ip:6443
        tls_config: {ca_file: $pki/ca.crt, cert_file: $pki/prometheus.crt, key_file: $pki/prometheus.key}
    relabel_configs:
      - {source_labels: [__meta_kubernetes_pod_container_port_name], regex: http, action: keep}
      - {source_labels: [__meta_kubernetes_pod_phase], regex: Succeeded|Failed, action: drop}
      - {source_labels: [__meta_kubernetes_namespace], target_label: namespace}
      - {source_labels: [__meta_kubernetes_pod_name], target_label: pod}
      - {source_labels: [__meta_kubernetes_pod_label_app], target_label: app}
      - {source_labels: [__meta_kubernetes_pod_label_pod_template_hash], target_label: pod_template_hash}
      - {regex: __meta_kubernetes_pod_label_(tollgate_dev_.+), action: labelmap}
alerting:
  alertmanagers:
    - static_configs: [{targets: ["$node_ip:9093"]}]
Y
    cat > "$conf/alertmanager.yaml" <<Y
route: {receiver: nobody, group_wait: 1s, group_interval: 1s}
receivers: [{name: nobody}]
Y
    run alertmanager alertmanager --config.file="$conf/alertmanager.yaml" --storage.path="$state/lib/alertmanager" \
      --web.listen-address="$node_ip:9093" --cluster.listen-address=
  fi
  # New targets are scraped after up to 6 s, with the default up to 5 s later.
  run prometheus prometheus --config.file="$conf/prometheus.yaml" --storage.tsdb.path="$state/lib/prometheus" \
    --web.listen-address="$node_ip:9090" --web.enable-lifecycle \
    --scrape.discovery-reload-interval=1s
}

wait_usable() {
  until_ok 30 kubectl -n default get serviceaccount default
  until_ok 30 curl -sf "http://$node_ip:9090/-/ready"
  kubectl wait --for=condition=Established --timeout=30s -f "$state/crds/" >> "$state/log/crds.log"
  [ "$level" = core ] || until_ok 60 kubectl wait --for=condition=Ready node/rig --timeout=1s
  if [ "$level" = all ]; then
    until_ok 30 curl -sf "http://$node_ip:9093/-/ready"
    until_ok 30 curl -sf "http://$node_ip:8082/ping"
    until_ok 30 kubectl -n gateway wait --for=condition=Programmed gateway/public --timeout=1s
  fi
}
