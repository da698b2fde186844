#!/usr/bin/env bash
# Try what is committed as a stranger does, on an empty machine of Python 3.11, 3.12 or 3.13.
#
#   tests/empty_machine.sh 3.13      # as root; what comes of it goes into docs/en/new_user.json
#
# The machine is the smallest Debian or Ubuntu that has this Python, with what docs/en/how_to/install.md asks for. It is
# laid out by debootstrap (16 GB of TMPDIR), entered by chroot, tried by tests/new_user.py --empty, and removed. It has
# the certificates and the settings of pip that this machine has; LEND='/wheels /more' names folders that it sees.
# JOBS and PYTEST_ADDOPTS go to `make test`, which takes long on few cores, and OMP_NUM_THREADS=1 where they are shared.
set -euo pipefail
cd "$(dirname "$0")/.."
version=${1:-}
case $version in
  3.11) system=(bookworm) mirror=() ;;
  3.12) system=(--components=main,universe noble) mirror=(https://archive.ubuntu.com/ubuntu /usr/share/debootstrap/scripts/gutsy) ;;
  3.13) system=(trixie) mirror=() ;;
  *) echo 'usage: tests/empty_machine.sh 3.11|3.12|3.13' >&2; exit 2 ;;
esac
scratch=$(mktemp -d)
trap 'rm -rf --one-file-system "$scratch"' EXIT
root=$scratch/root
mapfile -t settings < <(env | grep -E '^(PIP_|SSL_CERT_FILE=|JOBS=|PYTEST_ADDOPTS=|OMP_NUM_THREADS=)' || true)

inside() {  # run a command on the machine; what is mounted there is gone with it
  unshare --mount --pid --fork --kill-child bash -euc '
    root=$1
    shift
    mount -t proc proc "$root/proc"
    mount --rbind /dev "$root/dev"
    for folder in ${LEND:-}; do
      mkdir -p "$root$folder"
      mount --bind "$folder" "$root$folder"
    done
    exec chroot "$root" env -i HOME=/root LANG=C.UTF-8 DEBIAN_FRONTEND=noninteractive \
      PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin "$@"' - "$root" "${settings[@]}" "$@"
}

debootstrap --variant=minbase "${system[@]}" "$root" "${mirror[@]}"
cp /etc/resolv.conf "$root/etc/"
[ ! -d /etc/xdg/pip ] || install -D --target-directory "$root/etc/xdg/pip" /etc/xdg/pip/*
certificates() { install -D /etc/ssl/certs/ca-certificates.crt "$root/etc/ssl/certs/ca-certificates.crt"; }
certificates
inside apt-get update -qq
inside apt-get install -y -qq --no-install-recommends ca-certificates \
  $(sed -n 's/^apt install //p' docs/en/how_to/install.md)
certificates  # those of the package have replaced them
git clone --quiet . "$root/root/mmreuse"
inside python3 /root/mmreuse/tests/new_user.py --empty --out /root/mmreuse/docs/en/new_user.json \
  --command "${PYTEST_ADDOPTS:+PYTEST_ADDOPTS='$PYTEST_ADDOPTS' }tests/empty_machine.sh $version" || failed=yes
cp "$root/root/mmreuse/docs/en/new_user.json" docs/en/
[ -z "${failed:-}" ]
