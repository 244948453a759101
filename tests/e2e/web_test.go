package e2e

import (
	"fmt"
	"path/filepath"
	"strings"
	"testing"

	"github.com/chromedp/cdproto/input"
	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"

	"skerry.dev/skerry/tests/chromium"
)

// TestWebPage watches real pods on real nodes in a browser; what the page can do beyond that is tested beside it.
func TestWebPage(t *testing.T) {
	s := newSpace(t)
	p := chromium.New(t, filepath.Join(shared.Root, "tests", "artifacts"))
	has := chromium.Has

	// The address that `skerry up` prints logs in, and the token does not stay in it.
	p.Run(chromedp.Navigate(shared.State0.Page))
	p.Until("three nodes", "document.querySelectorAll('article.node').length >= 3 && "+has("article.node", "ready"))
	p.Until("token gone from the address", "!location.href.includes('token')")
	p.Until("hardware and measured load", has("article.node", "threads")+" && "+has("article.node", "used ·"))
	p.Run(chromedp.Click("article.node details > summary"))
	p.Until("hardware in detail", has("details[open]", "Kernel"))
	p.Shot("e2e-nodes")

	// What changes in the cluster shows without a reload.
	p.Run(chromedp.KeyEvent("2"))
	p.Until("workloads", "location.hash === '#/workloads'")
	s.apply(fmt.Sprintf(serveDeployment, "page-test", 2))
	p.Until("two pods and why they are there", has(".group h2", "page-test")+" && "+has(".group .chip", "2/2 available")+
		" && [...document.querySelectorAll('tr[data-open*=\"page-test\"]')].length === 2 && "+has("tr[data-open*='page-test'] .why", "n"))
	s.kubectl("scale deployment/page-test --replicas=3")
	p.Until("the third", has(".group .chip", "3/3 available"))
	p.Shot("e2e-workloads")

	// By keyboard alone: filter, choose, open, read, close.
	p.Run(input.DispatchKeyEvent(input.KeyRawDown).WithKey("/"), chromedp.KeyEvent("page-test")) // raw: the page keeps the "/" for itself
	p.Until("filtered", "document.activeElement.id === 'filter' && ![...document.querySelectorAll('tr[data-open]')].some((r) => !r.innerText.includes('page-test'))")
	p.Run(chromedp.Evaluate("document.activeElement.blur()", nil), chromedp.KeyEvent("j"), chromedp.KeyEvent(kb.Enter))
	p.Until("events and log of the pod", has("#drawer", "Scheduled")+" && "+has("#drawer", "running for")+" && "+has("#drawer", "Log, last 200 lines"))
	p.Shot("e2e-pod")
	p.Run(chromedp.KeyEvent(kb.Escape), chromedp.KeyEvent("3"))
	p.Until("events", "location.hash === '#/events' && "+has("tbody tr", "Scheduled"))

	p.Run(chromedp.Click("#logout"))
	p.Until("nothing left on the page", "document.querySelector('#login').open && document.querySelector('#view').childElementCount === 0")
	// 401 is how the page learns that it is not logged in; nodes on this machine make and remove network links.
	if faults := p.Faults("401", "ERR_NETWORK_CHANGED"); len(faults) > 0 {
		t.Errorf("the console shows:\n%s", strings.Join(faults, "\n"))
	}
}

// serveDeployment takes a name and a number of replicas.
const serveDeployment = `
apiVersion: apps/v1
kind: Deployment
metadata: {name: %[1]s}
spec:
  replicas: %[2]d
  selector: {matchLabels: {app: %[1]s}}
  template:
    metadata: {labels: {app: %[1]s}}
    spec:
      containers:
      - name: c
        image: registry.skerry/testimage:1
        args: [serve]
        resources: {requests: {cpu: 10m, memory: 16Mi}}
        readinessProbe: {httpGet: {path: /readyz, port: 8080}, periodSeconds: 1}
`
