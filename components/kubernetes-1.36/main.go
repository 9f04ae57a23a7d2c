// Hyperkube is the control plane's three programs in one file: which one it is,
// its own name says (through a symbolic link), or its first argument. They
// share nearly all their code, so one file is less than half the size of three,
// and a machine keeps its pages in memory once.
//
// What runs on every node is not in it but built from upstream's own main
// packages: linked in here, kube-proxy would take 6 MB more of every node for
// what the other programs set up before main begins.
package main

import (
	"fmt"
	"os"
	"path/filepath"
	_ "time/tzdata" // a CronJob may name a time zone, and the images hold no zone files

	"github.com/spf13/cobra"
	"k8s.io/component-base/cli"
	_ "k8s.io/component-base/logs/json/register"
	_ "k8s.io/component-base/metrics/prometheus/clientgo"
	_ "k8s.io/component-base/metrics/prometheus/version"
	apiserver "k8s.io/kubernetes/cmd/kube-apiserver/app"
	controllermanager "k8s.io/kubernetes/cmd/kube-controller-manager/app"
	scheduler "k8s.io/kubernetes/cmd/kube-scheduler/app"
)

var programs = map[string]func() *cobra.Command{
	"kube-apiserver":          apiserver.NewAPIServerCommand,
	"kube-controller-manager": controllermanager.NewControllerManagerCommand,
	"kube-scheduler":          func() *cobra.Command { return scheduler.NewSchedulerCommand() },
}

func main() {
	name := filepath.Base(os.Args[0])
	if name == "hyperkube" && len(os.Args) > 1 {
		os.Args = os.Args[1:]
		name = os.Args[0]
	}
	program, known := programs[name]
	if !known {
		fmt.Fprintln(os.Stderr, "usage: hyperkube kube-apiserver|kube-controller-manager|kube-scheduler [argument]...")
		os.Exit(2)
	}
	os.Exit(cli.Run(program()))
}
