#!/usr/bin/env bash
# `make run`: a one-machine cluster in the foreground with one workload through each face. Ctrl-C stops it cleanly.
set -euo pipefail
cd "$(dirname "$0")/.."
stoa=$PWD/target/release/stoa
data=${STOA_DATA_DIR:-$PWD/.stoa/demo}
api_port=${STOA_API_PORT:-6443}
mesos_port=${STOA_MESOS_PORT:-5050}
export KUBECONFIG=$data/kubeconfig
kubectl=$PWD/.stoa/tools/bin/kubectl
master=127.0.0.1:$mesos_port
mkdir -p "$data"
say() { printf '\n\033[1m%s\033[0m\n' "$*"; }

say "images from Debian packages"
scripts/images.sh "$stoa" "$data"

say "the cluster"
ready=$data/ready
rm -f "$ready"
# Anonymous frameworks are allowed because everything here is on loopback; a real cluster names principals.
"$stoa" up --data-dir "$data" --api-port "$api_port" --mesos-port "$mesos_port" --mesos-anonymous > "$ready" 2> "$data/stoa.log" &
pid=$!
stop() {
  trap - INT TERM EXIT
  say "stopping"
  kill -TERM "$pid" 2>/dev/null && wait "$pid" 2>/dev/null || true
  "$stoa" down --data-dir "$data"
}
trap stop INT TERM EXIT
until grep -q '^ready:' "$ready" 2>/dev/null; do
  if ! kill -0 "$pid" 2>/dev/null; then
    trap - INT TERM EXIT
    echo "stoa did not start; the end of its log:" >&2
    tail -20 "$data/stoa.log" >&2
    exit 1
  fi
  sleep 0.05
done
cat "$ready"
until "$kubectl" get nodes -o name 2>/dev/null | grep -q .; do sleep 0.1; done
"$kubectl" wait --for=condition=Ready node --all --timeout=30s

say "the Kubernetes face: a Deployment that answers HTTP"
"$kubectl" apply -f examples/hello/hello.yaml
"$kubectl" rollout status deployment/hello --timeout=60s
ip=$("$kubectl" get pods -l app=hello -o jsonpath='{.items[0].status.podIP}')
python3 -c 'import sys, urllib.request as u; print(u.urlopen(sys.argv[1], timeout=5).read().decode().strip())' "http://$ip:8080/"

say "the Mesos face: a framework that runs a batch of tasks on the same agent"
python3 examples/batch/batch.py --master "$master" --tasks 3 --command 'echo "task on $(hostname)"; sleep 8' &
batch=$!
until [ "$("$kubectl" get pods -n mesos --no-headers 2>/dev/null | grep -c Running || true)" -ge 3 ]; do
  kill -0 "$batch" 2>/dev/null || break
  sleep 0.1
done

say "both in one list: kubectl get pods -A"
"$kubectl" get pods -A -o wide
say "and in one Mesos state: http://$master/master/state"
python3 - "http://$master/master/state" <<'PY'
import json, sys, urllib.request
state = json.load(urllib.request.urlopen(sys.argv[1], timeout=5))
for agent in state["slaves"]:
    used, total = agent["used_resources"], agent["resources"]
    print(f"agent {agent['hostname']}: cpus {used.get('cpus', 0)}/{total.get('cpus', 0)}, mem {used.get('mem', 0)}/{total.get('mem', 0)}")
for framework in state["frameworks"]:
    print(f"framework {framework['name']}: {len(framework['tasks'])} tasks, {len(framework['completed_tasks'])} completed")
PY
wait "$batch"

cat <<TRY

$(printf '\033[1mtry next\033[0m')
  export KUBECONFIG=$KUBECONFIG
  $kubectl get pods -A -w
  $kubectl logs deployment/hello
  $kubectl exec -it deployment/hello -- sh
  $kubectl scale deployment/hello --replicas=5
  python3 examples/batch/batch.py --master $master --tasks 10 --command 'echo hi'
  curl -s http://$master/master/state | python3 -m json.tool | less
The log is $data/stoa.log. Ctrl-C stops the cluster and removes what it made.
TRY
if [ "${STOA_DEMO_ONCE:-}" = 1 ]; then exit 0; fi
wait "$pid"
