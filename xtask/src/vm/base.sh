# Makes an archive of a small Debian, as root: ARCHIVE RELEASE MIRROR PACKAGES
set -eu
tree=$(mktemp -d /var/tmp/ic-vm-XXXXXX)
trap 'rm -rf "$tree"' EXIT
trap 'exit 1' HUP INT TERM
debootstrap --variant=minbase --include="$4" "$2" "$tree" "$3"
cd "$tree"
rm -rf usr/share/doc usr/share/man usr/share/locale usr/share/info usr/share/zoneinfo var/cache/apt var/lib/apt/lists
find . -print0 | cpio -0 -o -H newc --quiet > "$1.tmp"
chmod 644 "$1.tmp"
mv "$1.tmp" "$1"
