#!/usr/bin/env bash
# What of packaging/ can be checked without a container or a system that boots: packaging/check.sh GLIMMER
#
# A tool that is not here is named, and its check left out.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
glimmer=$(realpath "${1:?usage: packaging/check.sh GLIMMER}")
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

has() {
  command -v "$1" > /dev/null || { echo "$1 is not here: NOT CHECKED"; return 1; }
}

if has shellcheck; then
  shellcheck "$here"/*.sh
fi
if has hadolint; then
  hadolint "$here/Dockerfile"
fi
if has systemd-analyze; then
  # With a program where this one is, and without the manual, which is not installed.
  sed "s|/usr/local/bin/glimmer|$glimmer|" "$here/glimmer.service" > "$work/glimmer.service"
  systemd-analyze verify --man=no "$work/glimmer.service"
fi

# Made twice, by people with other habits, the tarball is the same.
one=$("$here/release.sh" "$glimmer" -o "$work/one")
two=$(umask 077 && cd / && GLIMMER_PORT=1 LC_ALL=C.UTF-8 TZ=Asia/Shanghai "$here/release.sh" "$glimmer" -o "$work/two")
cmp "$one" "$two"
(cd "$work/one" && sha256sum --check --quiet ./*.sha256)

# And holds what it says.
tar --extract --file="$one" --directory="$work"
tree=$work/$(basename "$one" .tar.gz)
cmp "$glimmer" "$tree/bin/glimmer"
"$tree/bin/glimmer" --version
for verb in '' $("$glimmer" help | sed -n 's/^  \([a-z-]\+\) .*/\1/p' | grep -vx help); do
  page=$tree/share/man/man1/glimmer${verb:+-$verb}.1
  [[ -s $page ]] || { echo "there is no manual page $page"; exit 1; }
done
bash -n "$tree/share/bash-completion/completions/glimmer"
for file in doc/glimmer/{README.md,CHANGELOG.md,LICENSE,NOTICE} zsh/site-functions/_glimmer fish/vendor_completions.d/glimmer.fish; do
  [[ -s $tree/share/$file ]] || { echo "share/$file is missing"; exit 1; }
done
echo "$(basename "$one"): $(stat -c %s "$one") bytes, the same twice"
