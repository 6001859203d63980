# Keeps of unpacked packages what a machine boots from: DIRECTORY MODULE…
set -eu
cd "$1"
shift
for image in all/boot/vmlinuz-* all/usr/lib/modules/*/vmlinuz; do
    if [ -e "$image" ]; then cp "$image" vmlinuz; fi
done
for tree in all/lib/modules/* all/usr/lib/modules/*; do
    [ -d "$tree/kernel" ] || continue
    to="kept/usr/lib/modules/${tree##*/}"
    mkdir -p "$to"
    # Not every package has them.
    for list in "$tree"/modules.builtin* "$tree"/modules.order; do
        if [ -e "$list" ]; then cp "$list" "$to"; fi
    done
    for module; do
        (cd "$tree" && find kernel -name "$module.ko*" | cpio -pdm --quiet "$OLDPWD/$to")
    done
done
(cd kept && find . | cpio -o -H newc --quiet) > modules.tmp
rm -rf all kept apt
mv modules.tmp modules.cpio
