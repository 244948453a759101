// Package dns is a node's name server: it tells the node's pods the addresses of services and pods, as the Kubernetes DNS
// specification 1.1.0 names them, and asks the node's own name servers for everything else. It works from the same signed
// table as the service proxy, so that names are known while the node is cut off.
//
// Zone is pure: what a table says of a name. Server listens, on UDP and TCP, on an address that only the node's pods reach.
//
// Neighbours: edgeagent/network has the address, edgeagent/volume writes it into pods' resolv.conf. Not here: caching (the
// node's name servers do), zone transfers, DNSSEC.
//
// # Names
//
//	web.shop.svc.cluster.local              A      the service's address; the endpoints' when it is headless
//	                                        CNAME  of an ExternalName service, with what it leads to
//	db-0.db.shop.svc.cluster.local          A      a pod with that hostname and subdomain, ready or published early
//	10-42-1-7.db.shop.svc.cluster.local     A      an endpoint without a hostname
//	_http._tcp.web.shop.svc.cluster.local   SRV    a named port
//	10-42-1-7.shop.pod.cluster.local        A      any address of the pod network
//	10.0.43.10.in-addr.arpa                 PTR    services' addresses and headless services' endpoints
//
// A name of the cluster that the table does not have does not exist. Before the first table, nothing is known: SERVFAIL.
package dns
