#!/usr/bin/env bash
# Makes the tarball of a release, and its SHA-256: packaging/release.sh [GLIMMER] [-o DIR]
#
# GLIMMER is the program to pack; without it, it is built here, with no path of this machine inside. The same program, sources and
# commit make the same bytes on any machine: names in order, one owner, the commit's time (or SOURCE_DATE_EPOCH) on every file.
set -euo pipefail
root=$(cd "$(dirname "$0")/.." && pwd)
glimmer='' out=${CARGO_TARGET_DIR:-$root/target}/dist
while (($#)); do
  case $1 in
    -o) out=${2:?-o wants a directory}; shift 2 ;;
    -*) echo "usage: packaging/release.sh [GLIMMER] [-o DIR]" >&2; exit 2 ;;
    *) glimmer=$1; shift ;;
  esac
done
umask 022
export LC_ALL=C TZ=UTC

if [[ -z $glimmer ]]; then
  cargo=${CARGO_HOME:-$HOME/.cargo}
  (
    cd "$root"
    # What others' licences ask for is that of the packages inside.
    python3 tools/notice.py --check
    RUSTFLAGS="--remap-path-prefix=$root=/glimmer --remap-path-prefix=$cargo=/cargo" cargo build --release --locked --features pdf
  )
  glimmer=${CARGO_TARGET_DIR:-$root/target}/release/glimmer
fi

glimmer=$(realpath "$glimmer")
# No variable of whoever runs this gets into help texts.
say() { env -i "$glimmer" "$@"; }
version=$(say --version)
name=glimmer-${version#glimmer }-$(uname -m)-$(uname -s | tr '[:upper:]' '[:lower:]')
time=${SOURCE_DATE_EPOCH:-$(git -C "$root" log -1 --format=%ct)}

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
tree=$work/$name
share=$tree/share
install -D -m 755 "$glimmer" "$tree/bin/glimmer"
install -D -m 644 -t "$share/doc/glimmer" "$root"/{README.md,CHANGELOG.md,LICENSE,NOTICE}
install -D -m 644 -t "$tree/lib/systemd/system" "$root/packaging/glimmer.service"
mkdir -p "$share"/{man/man1,bash-completion/completions,zsh/site-functions,fish/vendor_completions.d}
say man --into "$share/man/man1"
say completions bash > "$share/bash-completion/completions/glimmer"
say completions zsh > "$share/zsh/site-functions/_glimmer"
say completions fish > "$share/fish/vendor_completions.d/glimmer.fish"

mkdir -p "$out"
tar --create --format=ustar --sort=name --owner=0 --group=0 --numeric-owner "--mtime=@$time" \
  --directory="$work" "$name" | gzip --no-name --best > "$out/$name.tar.gz"
(cd "$out" && sha256sum "$name.tar.gz" > "$name.tar.gz.sha256")
echo "$out/$name.tar.gz"
