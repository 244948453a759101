package dns

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"golang.org/x/net/dns/dnsmessage"

	"skerry.dev/skerry/messaging"
)

// shop is a table with a service of each kind.
func shop() messaging.ServiceTable {
	return messaging.ServiceTable{
		ServiceCIDR: "10.43.0.0/16", PodCIDR: "10.42.0.0/16",
		Services: []messaging.ServicePort{
			{Namespace: "default", Name: "kubernetes", Protocol: "TCP", ClusterIP: "10.43.0.1", Port: 443, PortName: "https"},
			{Namespace: "shop", Name: "web", Protocol: "TCP", ClusterIP: "10.43.0.7", Port: 80, PortName: "http", Endpoints: []string{"10.42.1.2:8080"}},
			{Namespace: "shop", Name: "web", Protocol: "UDP", ClusterIP: "10.43.0.7", Port: 53},
			{Namespace: "shop", Name: "broken", Protocol: "TCP", ClusterIP: "None", Port: 1},
		},
		Names: []messaging.ServiceName{
			{Namespace: "shop", Name: "db", Hosts: []messaging.Host{
				{IP: "10.42.1.5", Name: "db-0", Ports: []messaging.HostPort{{Name: "sql", Protocol: "TCP", Port: 5432}}},
				{IP: "10.42.2.6", Ports: []messaging.HostPort{{Name: "sql", Protocol: "TCP", Port: 15432}}},
				{IP: "no address"},
			}},
			{Namespace: "shop", Name: "nobody"},
			{Namespace: "shop", Name: "mail", External: "Mail.Example.COM"},
			{Namespace: "shop", Name: "nick", External: "web.shop.svc.cluster.local"},
			{Namespace: "shop", Name: "ring", External: "ring.shop.svc.cluster.local"},
		},
	}
}

func TestZone(t *testing.T) {
	z := NewZone(shop())
	for _, test := range []struct {
		name string
		of   dnsmessage.Type
		want string // "-" for a name that does not exist
	}{
		{"web.shop.svc.cluster.local.", dnsmessage.TypeA, "10.43.0.7"},
		{"web.shop.svc.cluster.local.", dnsmessage.TypeAAAA, ""},
		{"_http._tcp.web.shop.svc.cluster.local.", dnsmessage.TypeSRV, "web.shop.svc.cluster.local.:80"},
		{"_http._udp.web.shop.svc.cluster.local.", dnsmessage.TypeSRV, "-"},
		{"_https._tcp.kubernetes.default.svc.cluster.local.", dnsmessage.TypeSRV, "kubernetes.default.svc.cluster.local.:443"},
		{"db.shop.svc.cluster.local.", dnsmessage.TypeA, "10.42.1.5 10.42.2.6"},
		{"db-0.db.shop.svc.cluster.local.", dnsmessage.TypeA, "10.42.1.5"},
		{"10-42-2-6.db.shop.svc.cluster.local.", dnsmessage.TypeA, "10.42.2.6"},
		{"db-1.db.shop.svc.cluster.local.", dnsmessage.TypeA, "-"},
		{"_sql._tcp.db.shop.svc.cluster.local.", dnsmessage.TypeSRV, "db-0.db.shop.svc.cluster.local.:5432 10-42-2-6.db.shop.svc.cluster.local.:15432"},
		{"nobody.shop.svc.cluster.local.", dnsmessage.TypeA, ""},
		{"broken.shop.svc.cluster.local.", dnsmessage.TypeA, "-"},
		{"mail.shop.svc.cluster.local.", dnsmessage.TypeA, "mail.example.com."},
		{"shop.svc.cluster.local.", dnsmessage.TypeA, ""},
		{"svc.cluster.local.", dnsmessage.TypeA, ""},
		{"cluster.local.", dnsmessage.TypeA, ""},
		{"town.svc.cluster.local.", dnsmessage.TypeA, "-"},
		{"10-42-9-9.shop.pod.cluster.local.", dnsmessage.TypeA, "10.42.9.9"},
		{"10-99-9-9.shop.pod.cluster.local.", dnsmessage.TypeA, "-"},
		{"1.10-42-9-9.shop.pod.cluster.local.", dnsmessage.TypeA, "-"},
		{"7.0.43.10.in-addr.arpa.", dnsmessage.TypePTR, "web.shop.svc.cluster.local."},
		{"5.1.42.10.in-addr.arpa.", dnsmessage.TypePTR, "db-0.db.shop.svc.cluster.local."},
		{"9.9.42.10.in-addr.arpa.", dnsmessage.TypePTR, "-"},
		{"dns-version.cluster.local.", dnsmessage.TypeTXT, "1.1.0"},
	} {
		if !z.Owns(test.name) {
			t.Errorf("%s is not the zone's", test.name)
		}
		records, exists := z.Lookup(test.name, test.of)
		got := strings.Join(texts(records), " ")
		if !exists {
			got = "-"
		}
		if got != test.want {
			t.Errorf("%s %s: %q, want %q", test.name, test.of, got, test.want)
		}
	}
	for _, name := range []string{"example.com.", "notcluster.local.", "1.2.0.192.in-addr.arpa.", "42.10.in-addr.arpa."} {
		if z.Owns(name) {
			t.Errorf("%s is the zone's", name)
		}
	}
}

func texts(records []dnsmessage.ResourceBody) []string {
	var all []string
	for _, r := range records {
		switch r := r.(type) {
		case *dnsmessage.AResource:
			all = append(all, fmt.Sprintf("%d.%d.%d.%d", r.A[0], r.A[1], r.A[2], r.A[3]))
		case *dnsmessage.CNAMEResource:
			all = append(all, r.CNAME.String())
		case *dnsmessage.PTRResource:
			all = append(all, r.PTR.String())
		case *dnsmessage.SRVResource:
			all = append(all, fmt.Sprintf("%s:%d", r.Target, r.Port))
		case *dnsmessage.TXTResource:
			all = append(all, r.TXT...)
		default:
			all = append(all, fmt.Sprintf("%T", r))
		}
	}
	return slices.Clip(all)
}

// FuzzAnswer feeds a server packets as pods may send them: each answer must be one to the query, and can be read.
func FuzzAnswer(f *testing.F) {
	for _, name := range []string{"web.shop.svc.cluster.local.", "nick.shop.svc.cluster.local.", "7.0.43.10.in-addr.arpa."} {
		packet, err := question(name, dnsmessage.TypeA).Pack()
		if err != nil {
			f.Fatal(err)
		}
		f.Add(packet)
	}
	zone := NewZone(shop())
	f.Fuzz(func(t *testing.T, packet []byte) {
		q, err := parse(packet)
		if err != nil || !zone.Owns(q.name) {
			return
		}
		a, _ := zone.answer(&q)
		reply, err := q.pack(a, q.size)
		if err != nil {
			t.Fatalf("%q: %v", q.name, err)
		}
		var m dnsmessage.Message
		if err := m.Unpack(reply); err != nil || !answers(reply, packet) || len(reply) > q.size {
			t.Fatalf("%q: %d bytes for at most %d, %v, %+v", q.name, len(reply), q.size, err, m)
		}
	})
}

func question(name string, of dnsmessage.Type) *dnsmessage.Message {
	return &dnsmessage.Message{
		Header:    dnsmessage.Header{ID: 7, RecursionDesired: true},
		Questions: []dnsmessage.Question{{Name: dnsmessage.MustNewName(name), Type: of, Class: dnsmessage.ClassINET}},
	}
}
