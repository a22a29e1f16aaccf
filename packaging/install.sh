#!/bin/bash
# Builds what ships and installs it on this machine, or below DESTDIR for a package.
#
# usage: [DESTDIR=/folder] packaging/install.sh        (root, unless DESTDIR can be written)
set -euo pipefail
cd "$(dirname "$0")/.."

root=${DESTDIR:-}
share=$root/usr/share
if ! mkdir -p "$root/usr/bin" 2>/dev/null || [ ! -w "$root/usr/bin" ]; then
  echo "install.sh: cannot write to ${root:-/}usr/bin: run it as root, or set DESTDIR" >&2
  exit 1
fi
cargo build --release --package bedplate --bin bedplate
cargo xtask agent --release

install -D -m 755 target/release/bedplate "$root/usr/bin/bedplate"
install -D -m 755 target/substrate "$root/usr/lib/bedplate/substrate"
install -D -m 644 packaging/bedplate.service "$root/lib/systemd/system/bedplate.service"
install -D -m 644 packaging/bedplate.sysusers "$root/usr/lib/sysusers.d/bedplate.conf"
install -D -m 644 ipxe/boot.ipxe.j2 "$share/bedplate/ipxe/boot.ipxe.j2"
install -d -m 755 "$root/etc/bedplate/overlays"
packaging/install-overlays.sh overlays "$share/bedplate" "$root/etc/bedplate/overlays"
install -d "$share/doc/bedplate"
cp -r docs README.md CHANGELOG.md SECURITY.md LICENSE "$share/doc/bedplate/"
install -d "$share/bash-completion/completions" "$share/zsh/site-functions" "$share/fish/vendor_completions.d"
"$root/usr/bin/bedplate" completion bash >"$share/bash-completion/completions/bedplate"
"$root/usr/bin/bedplate" completion zsh >"$share/zsh/site-functions/_bedplate"
"$root/usr/bin/bedplate" completion fish >"$share/fish/vendor_completions.d/bedplate.fish"

# The server's user. A package leaves that to its own scripts: below DESTDIR nothing of the machine is changed.
if [ -z "$root" ] && ! getent passwd bedplate >/dev/null; then
  if command -v systemd-sysusers >/dev/null; then
    systemd-sysusers /usr/lib/sysusers.d/bedplate.conf
  else
    useradd --system --user-group --no-create-home --home-dir /var/lib/bedplate --shell /usr/sbin/nologin bedplate
  fi
fi

echo "installed. Next: /etc/bedplate/server.yaml, then systemctl enable --now bedplate (docs/quick-start.md)"
echo "After an upgrade: systemctl daemon-reload && systemctl restart bedplate"
