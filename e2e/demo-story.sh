# shellcheck shell=bash disable=SC2154
# What the demo does and how it tells it; sourced by demo after rig/env.sh.

plain='' bold='' dim='' good='' bad='' wait=''
if [ -t 1 ] && [ -z "${NO_COLOR-}" ]; then
  plain=$'\e[0m' bold=$'\e[1m' dim=$'\e[2m' good=$'\e[32m' bad=$'\e[31m' wait=$'\e[33m'
fi
inside() { e2e/rig/inside "$@"; }
say() { end_live; printf '%s\n' "$@"; }
title() { say "" "$bold== $1$plain"; }
# show CMD...: prints a command, then runs it in the cluster.
show() { say "$dim\$ $*$plain"; inside "$@" > "$state/log/demo-command.log"; }

# live TEXT: on a terminal, one line that the next one overwrites.
live() { if [ -t 1 ]; then printf '\r\e[K%s%.*s%s' "$dim" "$((${COLUMNS:-$(tput cols 2>/dev/null || echo 100)} - 1))" "$1" "$plain"; fi; }
end_live() { if [ -t 1 ]; then printf '\r\e[K'; fi; }

# resident CMD...: in the background, in the rig's network and process
# namespace: it outlives this script and ends with the rig.
resident() {
  local pid
  read -r pid _ < "$state/pid"
  PATH=$state/bin:$PATH setsid nsenter --net="/proc/$pid/ns/net" --pid="/proc/$pid/ns/pid" -- "$@" &
}

# make_image BINARY: gives the node the image that the manifests name. The
# libraries come along: the build is the ordinary one, not a static one.
make_image() {
  local image pid needed=() work=$state/image
  image=$(sed -n 's/^ *image: *//p' config/install/3-operator.yaml)
  mkdir "$work"
  strip -o "$work/tollgate" "$1" 2>/dev/null || cp "$1" "$work/tollgate"
  local path
  for path in $(ldd "$1" | grep -o '/[^ ]*'); do needed+=(-file "$path"); done
  [ ! -e /etc/ssl/certs/ca-certificates.crt ] || needed+=(-file /etc/ssl/certs/ca-certificates.crt)
  (cd e2e/demo-app && CGO_ENABLED=0 GOWORK=off GOFLAGS=-buildvcs=false go run ./image -binary "$work/tollgate" "${needed[@]}" \
    -image "docker.io/library/$image" -o "$work/tollgate.tar")
  read -r pid _ < "$state/pid"
  nsenter -t "$pid" --mount --net --pid env PATH="$PATH:$state/debian/usr/bin" \
    LD_LIBRARY_PATH="$(echo "$state"/debian/usr/lib/*-linux-gnu)" \
    ctr -n k8s.io images import "$work/tollgate.tar" > "$state/log/demo-image.log"
  rm -r "$work"
}

# A commit for each image, as a build would have; forty hexadecimal digits.
commit_of() { sha1sum <<<"$1" | cut -c1-40; }

# Sets $github, its address.
start_github() {
  if [ ! -d e2e/standin/node_modules/openapi-backend ]; then
    (cd e2e/standin && npm ci --no-audit --no-fund --loglevel=error)
  fi
  github=http://$node_ip:4020
  STANDIN_HOST=$node_ip STANDIN_PORT=4020 resident node e2e/standin/server.mjs > "$state/log/github.log" 2>&1 < /dev/null
  until_ok 20 inside curl -sf "$github/_ctl/state"
  local image commits=
  for image in v1 v2 v2-bad v3 v2-subtle; do commits+="${commits:+,}\"$(commit_of $image)\""; done
  inside curl -sf "$github/_ctl/seed" -d "{\"repository\":\"acme/shop\",\"commits\":[$commits]}" > "$state/log/demo-github.log"
}

# Clients, until the rig ends or half an hour is over; a line of JSON a second.
load_minutes=30
start_load() {
  resident load -rate "$rate" -duration ${load_minutes}m > "$state/log/load.json" 2>&1 < /dev/null
  until_ok 20 grep -q '"v1 200"' "$state/log/load.json"
}

# Whether Prometheus has found the three pods, up to 6 s after their start.
monitored() {
  inside curl -sf http://$node_ip:9090/api/v1/query --data-urlencode 'query=count(orders_total{namespace="shop"})' | grep -q '"3"\]'
}

# release IMAGE: what a deployment pipeline would do.
release() {
  until_ok 30 monitored
  image=$1 load_from=$(($(wc -l < "$state/log/load.json") + 1)) released=$(date +%s%3N)
  before=$(gate '{.status.epoch}')
  inside kubectl -n shop annotate deployment/checkout --overwrite tollgate.dev/commit="$(commit_of "$1")" >/dev/null
  show kubectl -n shop set image deployment/checkout checkout=tollgate.test/demo-app:"$1"
}
gate() { inside kubectl -n shop get releasegate checkout -o jsonpath="$1"; }

# total KEY: the sum of a number over the lines of load since the release began.
total() {
  tail -n +"$load_from" "$state/log/load.json" | grep -o "\"$1\":[0-9]*" | awk -F: '{sum += $NF} END {print sum + 0}'
}
# Seconds since the release began, at now or at an RFC 3339 time.
since() { awk -v from="$released" -v at="$(date -d "${1:-now}" +%s%3N)" 'BEGIN {printf "%5.1f s", (at - from) / 1000}'; }

# prometheus SIGNAL: STOP freezes it, connections open and nothing answered; CONT lets it go on.
prometheus() {
  local pid
  read -r pid _ < "$state/pid"
  nsenter --pid="/proc/$pid/ns/pid" -- kill -s "$1" "$(< "$state/run/prometheus")"
}

# follow SECONDS REASON [WEIGHT]: tells a release until it ends, and fails unless it ends with the
# reason. With a weight, Prometheus is frozen when the release has been there for 3 s.
follow() {
  local deadline=$((SECONDS + $1)) wanted=$2 blind_at=${3-} told=0 blind=0 there=0 fields
  while [ $SECONDS -lt $deadline ]; do
    mapfile -t fields < <(gate '{.status.epoch}{"\n"}{.status.attempt.stage}{"\n"}{.status.weight}{"\n"}{.status.decision}{"\n"}{.status.reason}{"\n"}{.status.message}{"\n"}{.status.analysis.name}{"\n"}{.status.attempt.why}{"\n"}')
    local epoch=${fields[0]} stage=${fields[1]} weight=${fields[2]} reason=${fields[4]} message=${fields[5]} why=${fields[7]}
    if [ "$epoch" -gt "${before:-0}" ]; then
      tell_decisions "${fields[6]}" "$epoch"
      case $stage in
        Rejected)
          [ "$why" = "$wanted" ] || { say "${bad}It was aborted for $why, not for $wanted: $message$plain"; return 1; }
          say "$(since)  ${bad}Refused.$plain Stable has all the traffic; the Deployment is held with the refused template."
          return ;;
        '')
          [ "$wanted" = Completed ] || { say "${bad}It ended with $reason, not with $wanted.$plain"; return 1; }
          say "$(since)  ${good}Complete.$plain Stable runs $image; the route is again as the team wrote it."
          return ;;
      esac
      # A new step has no samples for a moment; what lasts is worth a line.
      if [ "$reason" = NoEvidence ]; then blind=$((blind + 1)); else blind=0; fi
      [ $blind != 6 ] || say "$(since)  ${wait}Held$plain at $weight %, NoEvidence: $message"
      [ "$weight" != "$blind_at" ] || there=$((there + 1))
      if [ $there = 6 ]; then
        prometheus STOP
        say "$(since)  ${wait}Prometheus is frozen$plain: it takes questions and answers none."
      fi
    fi
    live "$(since)  ${weight:-0} %  $reason: $message  ($(total "$image [0-9]*") of $(total sent) requests went to $image)"
    sleep 0.5
  done
  say "${bad}Not over after $1 s: $reason, $message$plain"
  return 1
}

# tell_decisions ANALYSIS EPOCH: those not told yet (counted in $told of follow).
tell_decisions() {
  local at from to outcome reason rule lines colour
  mapfile -t lines < <(inside kubectl -n shop get canaryanalysis "$1" --ignore-not-found -o \
    jsonpath='{range .status.decisions[*]}{.at}{"\t"}{.from}{"\t"}{.to}{"\t"}{.outcome}{"\t"}{.reason}{"\t"}{.rule}{"\n"}{end}')
  while [ "$told" -lt ${#lines[@]} ]; do
    IFS=$'\t' read -r at from to outcome reason rule <<<"${lines[$told]}"
    case $outcome in Promote) colour=$good ;; Abort) colour=$bad ;; *) colour=$wait ;; esac
    say "$(since "$at")  $(printf '%3s %% -> %3s %%' "$from" "$to")  $colour$outcome$plain, $reason: $rule"
    told=$((told + 1))
  done
}

# clients_saw IMAGE
clients_saw() {
  local sent errors lost mine
  sent=$(total sent) errors=$(total errors) lost=$(total lost) mine=$(total "$1 [0-9]*")
  say "Clients sent $sent requests meanwhile: $mine were answered by $1, $errors failed, $lost of them without an answer of the service."
}

# abort_took: from the operator's own clock, of the only abort on numbers so far.
abort_took() {
  local pod took
  for pod in $(inside kubectl -n "$namespace" get pods -l app.kubernetes.io/name=tollgate -o name); do
    took=$(inside kubectl get --raw "/api/v1/namespaces/$namespace/pods/${pod#pod/}:8080/proxy/metrics" |
      awk '$1 == "tollgate_abort_seconds_sum" && $2 > 0 {printf "%.0f ms", $2 * 1000}')
    [ -z "$took" ] || say "Weight 0 was acknowledged $took after the end of the tick that decided it (tollgate_abort_seconds)."
  done
}

# github_received: what the stand-in got, and whether all of it kept to GitHub's description.
github_received() {
  inside curl -sf "$github/_ctl/deployments" | node -e '
    for (const one of JSON.parse(require("fs").readFileSync(0)).reverse()) {
      console.log(`deployment ${one.id}: commit ${one.sha.slice(0, 8)} to ${one.environment}`);
      for (const status of one.statuses.reverse()) console.log(`  ${status.state.padEnd(12)} ${status.description}`);
    }'
  inside curl -sf "$github/_ctl/verify" | node -e '
    const found = JSON.parse(require("fs").readFileSync(0));
    console.log(`${found.calls} calls; all of them, and every answer, agree with the OpenAPI description of GitHub.`);'
}
