# Builds Kubernetes' programs $3 into the directory $1, from the source package of Debian bookworm in $2: the last one
# that has the servers. One core and low priority: it runs beside other work. Go is told to fetch nothing.
set -eu

to=$1
work=$to/work
mkdir -p "$work/home"
cd "$work"

dpkg-source -x "$2"/kubernetes_*.dsc source > /dev/null

cd source
# Since Go 1.18 whoever walks a map brings what keeps the place, and it is as large as the runtime's own: with what this
# library has, the server falls over when its memory is swept in the middle of an answer.
sed -i 's/^func mapiterinit(.*$/func beginmap(rtype unsafe.Pointer, m unsafe.Pointer, it *hiter)/
    s/^\/\/go:linkname mapiterinit reflect.mapiterinit$/\/\/go:linkname beginmap reflect.mapiterinit/
    s/^\t\/\/ rest fields are ignored$/\tt, h, buckets, at, overflow, before unsafe.Pointer\n\tfirst uintptr\n\tsmall [4]uint8\n\tbucket, check uintptr/' \
    vendor/github.com/modern-go/reflect2/unsafe_link.go
cat >> vendor/github.com/modern-go/reflect2/unsafe_link.go << 'END'

func mapiterinit(rtype unsafe.Pointer, m unsafe.Pointer) *hiter {
	it := new(hiter)
	beginmap(rtype, m, it)
	return it
}
END
# The makefiles look for themselves where Go once wanted everything to be.
mkdir -p .go/src/k8s.io
ln -s ../../.. .go/src/k8s.io/kubernetes
cat > "$work/version" << 'END'
KUBE_GIT_COMMIT=''
KUBE_GIT_TREE_STATE='archive'
KUBE_GIT_VERSION='v1.20.2'
KUBE_GIT_MAJOR='1'
KUBE_GIT_MINOR='20'
END
nice -n 15 env -i PATH=/usr/lib/go-1.19/bin:/usr/bin:/bin HOME="$work/home" \
    GOPATH="$work/source/.go" GOCACHE="$work/cache" GOPROXY=off GOFLAGS=-p=1 GOMAXPROCS=1 CGO_ENABLED=0 \
    KUBE_GIT_VERSION_FILE="$work/version" make WHAT="$(printf 'cmd/%s ' $3)"

for program in $3; do
    cp -L "_output/bin/$program" "$to/$program.fresh"
    chmod 755 "$to/$program.fresh"
    mv "$to/$program.fresh" "$to/$program"
done
cd "$to"
chmod -R u+w "$work"
rm -rf "$work"
