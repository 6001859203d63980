# Installs Debian packages for `cargo xtask`, as root. None of them starts a service, now or with the next
# start of the machine: everything here runs its own, under names and ports of its own. What ran or was
# enabled before is left as it is.
set -eu

policy=/usr/sbin/policy-rc.d
cluster=/etc/postgresql-common/createcluster.d/interceptor.conf
mark='made by interceptor: no package starts a service while it is installed'

enabled() {
    find /etc/systemd/system /etc/rc[2-5].d \( -path '*.wants/*' -o -name 'S[0-9][0-9]*' \) 2> /dev/null | sort
}

tidy() {
    rm -f "$cluster"
    rmdir "${cluster%/*}" 2> /dev/null || true
    if grep -qsF "$mark" "$policy"; then rm -f "$policy"; fi
}
trap tidy EXIT
trap 'exit 1' HUP INT TERM
tidy

# invoke-rc.d and deb-systemd-invoke ask it. One that is there is the machine's own. Ours says no only
# as long as this shell lives, should nobody be left to remove it.
if ! [ -e "$policy" ]; then
    printf '#!/bin/sh\n# %s\n! [ -d /proc/%s ] || exit 101\n' "$mark" "$$" > "$policy"
    chmod 755 "$policy"
fi
# The package `postgresql` makes and starts a server of its own, unless this says otherwise.
mkdir -p "${cluster%/*}"
echo 'create_main_cluster = false' > "$cluster"

before=$(enabled)
export DEBIAN_FRONTEND=noninteractive
failed=0
{ apt-get -q update && apt-get -q install -y --no-install-recommends "$@"; } || failed=1

enabled | while read -r link; do
    if printf '%s\n' "$before" | grep -qxF "$link"; then continue; fi
    name=${link##*/}
    case $link in
    /etc/rc*)
        name=${name#S[0-9][0-9]}
        update-rc.d "$name" disable || true
        ;;
    *)
        echo "setup: $name came along; it is not to run by itself"
        # Without a system manager there is nobody to ask, and nobody whom the link would start it for yet.
        if command -v systemctl > /dev/null; then systemctl disable "$name" || true; else rm -f "$link"; fi
        ;;
    esac
    # Where the machine's own policy let it start.
    invoke-rc.d --quiet "${name%.service}" stop > /dev/null 2>&1 || true
done
exit "$failed"
