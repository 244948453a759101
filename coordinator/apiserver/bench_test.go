package apiserver_test

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net/http"
	"sync/atomic"
	"testing"
)

// One request at a time over one HTTP/2 connection with TLS, client included.
func BenchmarkGet(b *testing.B) {
	c := start(b)
	c.configMap("a", "1")
	for b.Loop() {
		c.get(configMaps + "/a")
	}
}

// Each create is acknowledged by JetStream, which here does not sync to disk.
func BenchmarkCreate(b *testing.B) {
	c := start(b)
	var n atomic.Int64
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			c.configMap(fmt.Sprintf("m%d", n.Add(1)), "1")
		}
	})
}

func BenchmarkListThousand(b *testing.B) {
	c := start(b)
	for i := range 1000 {
		c.configMap(fmt.Sprintf("m%d", i), "1")
	}
	for name, accept := range map[string]string{"json": "application/json", "protobuf": "application/vnd.kubernetes.protobuf", "table": "application/json;as=Table;v=v1;g=meta.k8s.io"} {
		b.Run(name, func(b *testing.B) {
			for b.Loop() {
				c.get(configMaps, header{"Accept": accept})
			}
		})
	}
}

// One change, heard by a hundred watchers.
func BenchmarkWatchFanOut(b *testing.B) {
	const watchers = 100
	c := start(b)
	c.configMap("a", "1")
	heard := make(chan struct{}, watchers)
	ctx, cancel := context.WithCancel(b.Context())
	defer cancel()
	for range watchers {
		resp := c.open(ctx, http.MethodGet, configMaps+"?watch=1", "") //nolint:bodyclose // read closes it
		go read(resp.Body, heard)
	}
	for range watchers {
		<-heard // the object as it is
	}
	i := 0
	for b.Loop() {
		i++
		c.must(http.MethodPatch, configMaps+"/a", fmt.Sprintf(`{"data":{"i":"%d"}}`, i))
		for range watchers {
			<-heard
		}
	}
}

func read(body io.ReadCloser, heard chan<- struct{}) {
	defer body.Close()
	for lines := bufio.NewScanner(body); lines.Scan(); {
		heard <- struct{}{}
	}
}
