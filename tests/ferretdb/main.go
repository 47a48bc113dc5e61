// Package main is the MongoDB-compatible server of the sandbox, where no mongod is to be had:
// FerretDB 1.24.2 with its SQLite backend.
//
// FerretDB's own command panics when it is built from the module alone (its version file is generated and
// not part of the module), so its embeddable package is run from here.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"

	"github.com/FerretDB/FerretDB/ferretdb"
)

// grace is how long connections get at the end: FerretDB's own three seconds are longer than a mongod takes, and
// what SQLite has committed needs no farewell.
const grace = 300 * time.Millisecond

func main() {
	listen := flag.String("listen", "127.0.0.1:27017", "`address` to listen on")
	dir := flag.String("dir", "", "`directory` that holds the databases, one SQLite file each")
	flag.Parse()

	if err := run(*listen, *dir); err != nil {
		fmt.Fprintln(os.Stderr, "ferretdb:", err)
		os.Exit(1)
	}
}

func run(listen, dir string) error {
	if dir == "" {
		return fmt.Errorf("--dir is needed")
	}

	dir, err := filepath.Abs(dir)
	if err != nil {
		return err
	}

	if err = os.MkdirAll(dir, 0o700); err != nil {
		return err
	}

	server, err := ferretdb.New(&ferretdb.Config{
		Listener:  ferretdb.ListenerConfig{TCP: listen},
		Handler:   "sqlite",
		SQLiteURL: "file:" + dir + "/",
	})
	if err != nil {
		return err
	}

	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()

	fmt.Println("ferretdb: listening on", listen, "databases in", dir)

	ended := make(chan error, 1)

	go func() { ended <- server.Run(ctx) }()

	select {
	case err = <-ended:
		return err
	case <-ctx.Done():
	}

	select {
	case err = <-ended:
		return err
	case <-time.After(grace):
		return nil
	}
}
