//go:build tools

// Package tools pins the stock mongodump and mongorestore that interchange is tested with.
package tools

import (
	_ "github.com/mongodb/mongo-tools/mongodump/main"
	_ "github.com/mongodb/mongo-tools/mongorestore/main"
)
