# shellcheck shell=bash
# Pods, Kubernetes' YAML, builds.

case_pod() {
  p pod create --name q --network none > /dev/null
  p run -d --pod q --name c $image sleep 1000 > /dev/null
  p run -d --pod q --name e $image sleep 1000 > /dev/null
  is "$(p pod ps --format '{{.Name}} {{.Status}} {{.NumberOfContainers}}')" 'q Running 3'
  local k
  for k in net ipc uts; do is "$(p exec c readlink /proc/self/ns/$k)" "$(p exec e readlink /proc/self/ns/$k)"; done
  [ "$(p exec c readlink /proc/self/ns/pid)" != "$(p exec e readlink /proc/self/ns/pid)" ] || fail "one pid namespace"
  is "$(p exec c hostname)" q
  is "$(p pod inspect --format '{{.State}} {{.NumContainers}}' q)" 'Running 3'
  has "$(p pod top q pid comm)" sleep
  p pod rm -f -t 0 q
  is "$(p ps -aq)$(p pod ps -q)" ''
}
case_pod_stop_start_restart() {
  p pod create --name q --network none > /dev/null
  p run -d --pod q --name c $image sh -c 'trap "exit 5" TERM; echo ready; while :; do sleep 0.1; done' > /dev/null
  await logs_have c ready
  p pod stop -t 30 q > /dev/null
  is "$(p inspect --format '{{.State.Status}} {{.State.ExitCode}}' c)" 'exited 5'
  p pod start q > /dev/null
  in_state c running
  p pod restart q > /dev/null
  in_state c running
  p pod kill q > /dev/null
  is "$(p wait c)" 137
}
case_pod_pause_and_unpause() {
  p pod create --name q --network none > /dev/null
  p run -d --pod q --name c $image sleep 1000 > /dev/null
  p pod pause q > /dev/null
  in_state c paused
  p pod unpause q > /dev/null
  in_state c running
}
case_pod_stats() {
  p pod create --name q --network none > /dev/null
  p run -d --pod q --name c $image sleep 1000 > /dev/null
  has "$(p pod stats --no-stream --format '{{.Name}} {{.PIDS}}' q)" "^c $([ -n "$rootless" ] || echo 1)"
}
case_pod_that_shares_pids() {
  p pod create --name q --network none --share pid,ipc,net,uts > /dev/null
  p run -d --pod q --name c $image sleep 1000 > /dev/null
  is "$(run --pod q $image sh -c 'ps -o comm | grep -c sleep; cat /proc/1/comm')" $'1\ncatatonit'
}
case_pod_without_infra() {
  p pod create --name q --infra=false > /dev/null
  exits 4 run --pod q $image sh -c 'exit 4'
}
case_pod_with_init_container() {
  p pod create --name q --network none > /dev/null
  p create --pod q --init-ctr once -v shared:/s $image sh -c 'echo first > /s/f' > /dev/null
  p create --pod q --name c -v shared:/s $image cat /s/f > /dev/null
  p pod start q > /dev/null
  is "$(p wait c)" 0
  is "$(p logs c)" first
}
root_pod_limits() {
  p pod create --name q --network none --cpus 0.5 --memory 64m > /dev/null
  p run -d --pod q --name c $image sleep 1000 > /dev/null
  local path; path=$(awk -F: '$2 == "memory" { print $3 }' "/proc/$(pid_of c)/cgroup")
  is "$(cat "/sys/fs/cgroup/memory${path%/*}/memory.limit_in_bytes")" $((64 << 20))
}
case_pod_port() {
  p pod create --name q --network slirp4netns -p 127.0.0.1:18090:80 > /dev/null
  p run -d --pod q --name c $image sh -c 'mkdir /www; echo served > /www/index.html; exec httpd -f -h /www -p 80' > /dev/null
  await answers 18090
}
case_play_kube() {
  mkdir -p "$d/host"; echo given > "$d/host/f"
  cat > "$d/pod.yaml" <<END
apiVersion: v1
kind: Pod
metadata:
  name: web
  labels: {app: web}
spec:
  hostname: webhost
  restartPolicy: Never
  hostNetwork: true
  volumes:
  - name: share
    hostPath: {path: $d/host, type: Directory}
  - name: empty
    emptyDir: {}
  containers:
  - name: one
    image: $image
    command: [sh, -c, 'cat /share/f; echo \$WORD; id -u; exec sleep 1000']
    env: [{name: WORD, value: said}]
    securityContext: {runAsUser: 7, readOnlyRootFilesystem: true, capabilities: {drop: [ALL]}}
    volumeMounts: [{name: share, mountPath: /share, readOnly: true}]
  - name: two
    image: $image
    command: [sh, -c, 'exit 3']
END
  exits 0 p play kube "$d/pod.yaml"
  await logs_have web-one '^7$'
  is "$(p logs web-one)" $'given\nsaid\n7'
  is "$(p wait web-two)" 3
  exits 0 p generate kube web
  has "$(cat "$d/out")" 'kind: Pod'
  exits 0 p play kube --down "$d/pod.yaml"
  is "$(p ps -aq)$(p pod ps -q)" ''
}
case_generate_kube() {
  background c -e A=b
  p generate kube -f "$d/made.yaml" c
  remove c
  sed -i 's/^spec:/spec:\n  hostNetwork: true/; /hostNetwork: false/d' "$d/made.yaml"
  exits 0 p play kube "$d/made.yaml"
  is "$(p exec c-pod-c sh -c 'echo $A')" b
  exits 0 p play kube --down "$d/made.yaml"
  rm "$d/made.yaml"
}
# build NAME OPTIONS...: of the Containerfile that is our stdin
build() {
  mkdir -p "$d/context"; echo context > "$d/context/file"
  cat > "$d/context/Containerfile"
  p build -q --network none -t "$@" "$d/context"
}
case_build() {
  exits 0 build localhost/built:latest <<END
FROM $image AS one
RUN echo layer > /layer && id -u > /uid
FROM $image
COPY --from=one /layer /uid /
COPY file /copied
RUN --mount=type=tmpfs,target=/scratch echo x > /scratch/x
USER 5
CMD ["sh", "-c", "cat /layer /copied; id -u"]
END
  is "$(run localhost/built:latest)" $'layer\ncontext\n5'
  p rmi -f localhost/built:latest
}
case_build_isolation_oci() {
  exits 0 build localhost/built:latest --isolation oci <<END
FROM $image
RUN test \$\$ != 0 && grep -c . /proc/self/mountinfo > /mounts
CMD ["cat", "/mounts"]
END
  has "$(run localhost/built:latest)" '^[0-9]+$'
  p rmi -f localhost/built:latest
}
case_build_that_fails() {
  exits 9 build localhost/built:latest <<END
FROM $image
RUN exit 9
END
  says 'exit status 9'
  exits 1 p image exists localhost/built:latest
}
