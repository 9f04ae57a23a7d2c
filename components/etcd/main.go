// Etcd's own main package sits in a module that only stands for its release,
// so this is it again. The tools beside it are built from their own modules.
package main

import (
	"os"

	"go.etcd.io/etcd/server/v3/etcdmain"
)

func main() {
	etcdmain.Main(os.Args)
}
