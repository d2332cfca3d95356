# shellcheck shell=bash
# What hack/containerd-suite and hack/cri-suite have in common: their options, the place they run in, the image and
# the server. Sourced, after sandbox.sh.
#
#   suite_open LIMIT "$@"     reads the options; comes back only inside of the sandbox, where the variables below are set
#   containerd_start          starts containerd by $d/config.toml, which the suite has written before, and waits for it
#   containerd_stop SIGNAL    and waits until it is gone; what runs below shims goes on
#
# Variables: d (a folder for everything), logs, runtime (its path), type (containerd's name for the shim), shim
# (the shim's file name), sock, image, version (containerd's, as 1.6), only (the cases asked for).
sock=/run/test-containerd.sock image=localhost/busybox:latest
suite_usage() {
  cat >&2 <<END_OF_USAGE
usage: ${0##*/} --runtime PATH|NAME [--shim PATH] [--debian SUITE] [--logs DIR] [CASE...]
  --runtime  the runtime under test: a file, or a name that is looked up where containerd runs
  --shim     the shim under test, a file called containerd-shim-NAME-VERSION, with the runtime in its PATH under
             the runtime's own name; without it containerd's own shim for runc
  --debian   the containerd of that Debian (hack/debian: trixie, forky) instead of this machine's
  --logs     keeps what everybody said in DIR
END_OF_USAGE
  exit 2
}
die() { echo "${0##*/}: $*" >&2; exit 2; }

suite_open() {
  local limit=$1 debian='' rc=0 inside=()
  shift
  runtime='' shim='' logs='' only=() d=''
  while [ $# -gt 0 ]; do
    case $1 in
      --runtime) runtime=$2; shift 2 ;;
      --shim) shim=$2; shift 2 ;;
      --debian) debian=$2; shift 2 ;;
      --logs) logs=$(realpath -m "$2"); shift 2 ;;
      --inside) d=$2; shift 2 ;;
      -*) suite_usage ;;
      *) only+=("$1"); shift ;;
    esac
  done
  [ -n "$runtime" ] || suite_usage
  [ "$(id -u)" = 0 ] || die "containerd needs root"
  if [ -n "$d" ]; then suite_variables; return; fi

  [ -z "$debian" ] || "$here/debian" "$debian" --build || exit $?
  sandbox_open "ferrun-${0##*/}"
  trap sandbox_close EXIT
  d=$sandbox_dir
  [ -n "$logs" ] || logs=$d/logs
  mkdir -p "$logs" "$d/bin"
  # Copies: the sandbox may have another root, and the managers' PATH is to hold nothing else.
  if [[ $runtime = */* ]]; then cp "$runtime" "$d/bin/" || exit 2; runtime=${runtime##*/}; fi
  if [ -n "$shim" ]; then cp "$shim" "$d/bin/" || exit 2; shim=${shim##*/}; fi
  if [[ $runtime = crun* ]]; then export SANDBOX_WITHOUT=cgroup2; fi
  image_make > "$logs/image" 2>&1 || { cat "$logs/image"; die "making the image failed"; }
  if [ -n "$debian" ]; then
    inside=("$here/debian" "$debian" --share "$(realpath "$here/..")")
    # (below $d they are shared already, and would be one more mount there)
    [[ $logs = "$d"/* ]] || inside+=(--share "$logs")
  fi
  inside+=("$(realpath "$0")" --inside "$d" --runtime "$runtime" --shim "$shim" --logs "$logs")
  sandbox_run "$limit" "${inside[@]}" "${only[@]}" < /dev/null || rc=$?
  [ $rc != 137 ] || { echo "not done after $limit s; containerd's last words:"; tail -n 5 "$logs/containerd"; echo "0 passed, 1 failed, 0 skipped"; }
  exit $rc
}

# The first process of its own namespaces from here on.
suite_variables() {
  local family
  PATH=$d/bin:$PATH
  runtime=$(command -v "$runtime") || die "no runtime $runtime"
  shim=${shim:-containerd-shim-runc-v2}
  [[ $shim = containerd-shim-*-v* ]] || die "$shim is no name that containerd finds a shim by"
  family=${shim#containerd-shim-}
  type=io.containerd.${family%-*}.${family##*-}
  version=$(containerd --version | grep -oE ' v?[0-9]+\.[0-9]+' | tr -d ' v' | head -n 1)
  # For callers that cannot name a runtime (`ctr container create`), it is called runc.
  [ "${runtime##*/}" = runc ] || ln -s "$runtime" "$d/bin/runc"
}

# One layer with busybox; a second name for it, that sleeps and reaps, is what pods are held by.
image_make() {
  local layout=$d/layout applet
  umoci init --layout "$layout"
  umoci new --image "$layout:latest"
  umoci unpack --image "$layout:latest" "$d/unpacked"
  mkdir -p "$d/unpacked/rootfs"/{bin,dev,etc,proc,sys,tmp}
  cp /bin/busybox "$d/unpacked/rootfs/bin/"
  for applet in $(/bin/busybox --list); do [ "$applet" = busybox ] || ln -s busybox "$d/unpacked/rootfs/bin/$applet"; done
  printf '%s\n' root:x:0:0:root:/root:/bin/sh user:x:1000:1000::/tmp:/bin/sh > "$d/unpacked/rootfs/etc/passwd"
  printf '%s\n' root:x:0: user:x:1000: extra:x:1001:user > "$d/unpacked/rootfs/etc/group"
  umoci repack --image "$layout:latest" "$d/unpacked"
  umoci config --image "$layout:latest" --config.env PATH=/bin --config.cmd /bin/sh
  umoci config --image "$layout:latest" --tag pause --config.cmd /bin/sh --config.cmd -c --config.cmd 'while :; do sleep 1000; done'
  skopeo --insecure-policy --tmpdir "$d" copy "oci:$layout:latest" "oci-archive:$d/image.tar:$image"
  skopeo --insecure-policy --tmpdir "$d" copy "oci:$layout:pause" "oci-archive:$d/pause.tar:localhost/pause:latest"
}

containerd_start() {
  containerd -c "$d/config.toml" >> "$logs/containerd" 2>&1 &
  echo $! > "$d/containerd.pid"
  for _ in {1..300}; do
    timeout 10 ctr --address $sock version > /dev/null 2>&1 && return
    sleep 0.1
  done
  echo "containerd does not answer" >&2; return 1
}
containerd_stop() {
  local pid; pid=$(< "$d/containerd.pid")
  kill -s "$1" "$pid"
  # It need not be a child of this shell: a case may have started it.
  for _ in {1..300}; do
    wait "$pid" 2> /dev/null || true
    [ -e "/proc/$pid" ] && [ "$(awk '/^State/ { print $2 }' "/proc/$pid/status" 2> /dev/null)" != Z ] || return 0
    sleep 0.1
  done
  echo "containerd does not end" >&2; return 1
}
