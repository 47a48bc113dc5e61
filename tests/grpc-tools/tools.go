//go:build tools

// Package tools pins the gRPC clients that witness from outside what opsd answers.
package tools

import (
	_ "github.com/fullstorydev/grpcurl/cmd/grpcurl"
	_ "github.com/grpc-ecosystem/grpc-health-probe"
)
