package probe

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net/http"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
)

// grpc calls grpc.health.v1.Health/Check. One unary call with two one-field messages needs no gRPC library, which would
// add megabytes to the agent.
func (t Target) grpc(ctx context.Context, a *corev1.GRPCAction) (Result, error) {
	address, err := t.address("", intstr.FromInt32(a.Port))
	if err != nil {
		return Result{Output: err.Error()}, nil
	}
	service := ""
	if a.Service != nil {
		service = *a.Service
	}
	status, err := checkHealth(ctx, address, service)
	switch {
	case err != nil:
		return Result{Output: fmt.Sprintf("health rpc probe failed: %v", err)}, nil
	case status != serving:
		return Result{Output: fmt.Sprintf("service unhealthy (responded with %d)", status)}, nil
	default:
		return Result{Passed: true}, nil
	}
}

// serving is HealthCheckResponse.SERVING.
const serving = 1

func checkHealth(ctx context.Context, address, service string) (status uint64, err error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://"+address+"/grpc.health.v1.Health/Check",
		bytes.NewReader(frame(stringField(1, service))))
	if err != nil {
		return 0, err
	}
	req.Header.Set("Content-Type", "application/grpc")
	req.Header.Set("TE", "trailers")
	protocols := &http.Protocols{}
	protocols.SetUnencryptedHTTP2(true)
	transport := &http.Transport{DialContext: dial, DisableKeepAlives: true, Protocols: protocols}
	defer transport.CloseIdleConnections()
	res, err := transport.RoundTrip(req)
	if err != nil {
		return 0, err
	}
	defer func() { _ = res.Body.Close() }() // only read from
	body, err := io.ReadAll(io.LimitReader(res.Body, maxOutput))
	if err != nil {
		return 0, err
	}
	return readHealth(res, body)
}

func readHealth(res *http.Response, body []byte) (uint64, error) {
	code, message := res.Trailer.Get("Grpc-Status"), res.Trailer.Get("Grpc-Message")
	if code == "" {
		code, message = res.Header.Get("Grpc-Status"), res.Header.Get("Grpc-Message")
	}
	if res.StatusCode != http.StatusOK || code != "0" {
		return 0, fmt.Errorf("http status %d, grpc status %q %s", res.StatusCode, code, message)
	}
	return parseHealth(body)
}

// parseHealth reads the frame of a HealthCheckResponse: one optional varint field with number 1.
func parseHealth(body []byte) (uint64, error) {
	if len(body) < 5 || body[0] != 0 || binary.BigEndian.Uint32(body[1:]) != uint32(len(body)-5) { //nolint:gosec // bounded by maxOutput
		return 0, errors.New("answer is no single uncompressed message")
	}
	message := body[5:]
	if len(message) == 0 {
		return 0, nil
	}
	if message[0] != 1<<3 {
		return 0, errors.New("answer is no HealthCheckResponse")
	}
	status, n := binary.Uvarint(message[1:])
	if n <= 0 {
		return 0, errors.New("answer is no HealthCheckResponse")
	}
	return status, nil
}

func stringField(number byte, s string) []byte {
	if s == "" {
		return nil
	}
	b := []byte{number<<3 | 2}
	b = binary.AppendUvarint(b, uint64(len(s)))
	return append(b, s...)
}

func frame(message []byte) []byte {
	b := make([]byte, 5, 5+len(message))
	binary.BigEndian.PutUint32(b[1:], uint32(len(message))) //nolint:gosec // a service name
	return append(b, message...)
}
