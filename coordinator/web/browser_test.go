package web_test

import (
	"path/filepath"
	"strings"
	"testing"

	"github.com/chromedp/cdproto/input"
	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"

	"skerry.dev/skerry/tests/chromium"
)

// raw presses a key that the page keeps for itself: the browser must not write it as well.
func raw(key string) chromedp.Action { return input.DispatchKeyEvent(input.KeyRawDown).WithKey(key) }

const focused = "document.activeElement"

// TestBrowser is a person's visit, from logging in to logging out.
func TestBrowser(t *testing.T) {
	s := newSite(t)
	s.fleet()
	p := chromium.New(t, filepath.Join("..", "..", "tests", "artifacts"))

	// A wrong token is refused in words. The address with the right one logs in, and does not keep it.
	p.Run(chromedp.Navigate(s.url+"/ui/"), chromedp.WaitVisible("#login[open]"), chromedp.SendKeys("#token", "guess"+kb.Enter))
	p.Until("refusal", chromium.Has("#login-error", "token is not known"))
	p.Run(chromedp.Navigate("about:blank"), chromedp.Navigate(s.url+"/ui/#token="+adminToken))
	p.Until("six nodes", "document.querySelectorAll('article.node').length === 6")
	p.Until("no token in the address", "location.hash === '#/nodes'")

	t.Run("nodes", func(t *testing.T) { nodes(s, p) })
	t.Run("workloads", func(t *testing.T) { workloads(s, p) })
	t.Run("drawer", func(t *testing.T) { drawer(p) })
	t.Run("events and moves", func(t *testing.T) { eventsAndMoves(s, p) })
	t.Run("by keyboard", func(t *testing.T) { keyboard(p) })
	t.Run("phone", func(t *testing.T) { phone(p) })
	t.Run("preferences", func(t *testing.T) { preferences(p) })
	if outside := p.Outside(s.url); len(outside) > 0 {
		t.Errorf("the page asked others: %v", outside)
	}

	p.Run(chromedp.Click("#logout"))
	p.Until("nothing left on the page", "document.querySelector('#login').open && document.querySelector('#view').childElementCount === 0 && !document.body.innerText.includes('rack-1')")
	p.Run(chromedp.Reload())
	p.Until("still logged out", "document.querySelector('#login').open")
	// 401 is how the page learns that it is not logged in; other tests on the machine make and remove network links.
	if faults := p.Faults("401", "ERR_NETWORK_CHANGED"); len(faults) > 0 {
		t.Errorf("the console shows:\n%s", strings.Join(faults, "\n"))
	}
}

func nodes(s *site, p *chromium.Page) {
	p.Until("states in words", chromium.Has("article.node", "unreachable since")+" && "+chromium.Has("article.node", "cordoned: no new pods")+" && "+chromium.Has("article.node", "ready"))
	p.Until("hardware", chromium.Has("article.node summary", "Dell Inc. PowerEdge R740")+" && "+chromium.Has("article.node summary", "Raspberry Pi 4"))
	p.Until("load", chromium.Has("article.node", "used ·")+" && "+chromium.Has(".summary", "alert"))
	p.Until("trouble first", chromium.Has(".alerts", "CrashLoopBackOff")+" && "+chromium.Has(".alerts", "Insufficient memory")+" && "+chromium.Has(".alerts", "Node harbour"))
	for i := range 4 { // the page draws a line once it has three points
		s.load("rack-1", 8+float64(i), 61, 18)
		s.load("garden", 0.5+0.4*float64(i%2), 1.9, 11)
		want := []string{"8.0 used", "9.0 used", "10 used", "11 used"}[i]
		p.Until("load "+want, chromium.Has("article.node", want))
	}
	p.Until("a line of the past", "document.querySelector('article.node .spark')")
	p.Shot("web-nodes")
	p.Run(chromedp.Click("article.node details > summary"))
	p.Until("hardware in full", chromium.Has("details[open]", "Kernel"))
	p.Shot("web-hardware")
	// What a person has opened or selected stays while the page changes.
	s.load("rack-1", 21, 61, 18)
	p.Until("new load", chromium.Has("article.node", "21 used"))
	p.Until("fold still open", "document.querySelector('details[open]')")
	p.Run(chromedp.Click("details[open] > summary"))
}

func workloads(s *site, p *chromium.Page) {
	p.Run(chromedp.KeyEvent("2"))
	p.Until("why they run there, and why not", chromium.Has("tr .why", "best of 4 fitting nodes")+" && "+chromium.Has("tr .why", "4 Insufficient memory"))
	p.Until("rollouts", chromium.Has(".group .chip", "5/6 available"))
	p.Until("endpoints", chromium.Has("tr", "2 on garden, rack-1"))
	p.Shot("web-workloads")
	p.Run(chromedp.Evaluate("window.kept = document.querySelector('tr[data-open*=\"web-7c9d-f7q8z\"]'); window.kept.focus()", nil))
	s.patch("/api/v1/namespaces/default/pods/web-7c9d-f7q8z/status", object{"status": object{"phase": "Failed", "reason": "NodeLost"}})
	p.Until("the change, without a reload", chromium.Has("tr[data-open*='web-7c9d-f7q8z']", "NodeLost"))
	p.Until("the same row, with its focus", "window.kept.isConnected && "+focused+" === window.kept")
	s.must("DELETE", "/api/v1/namespaces/default/pods/trainer-7c9d-e1r2t?gracePeriodSeconds=0", nil)
	p.Until("a row less", "!document.querySelector('tr[data-open*=\"trainer\"]')")
}

func drawer(p *chromium.Page) {
	p.Run(chromedp.Click("tr[data-open*='b2m4x']"))
	p.Until("the pod in full", chromium.Has("#drawer", "exit code 137")+" && "+chromium.Has("#drawer", "BackOff")+" && "+chromium.Has("#drawer", "best of 4 fitting nodes"))
	p.Until("the end of its log", chromium.Has("#log-text", "the last line of sensor-collector on garden"))
	p.Shot("web-pod")
	p.Run(chromedp.KeyEvent(kb.Escape))
	p.Until("closed", "document.querySelector('#drawer').hidden && "+focused+".dataset.open?.includes('b2m4x')")
	p.Run(chromedp.KeyEvent("1"), chromedp.Click("article.node .name"))
	p.Until("the node in full", chromium.Has("#drawer", "kubernetes.io/arch=")+" && "+chromium.Has("#drawer", "Conditions"))
	p.Run(chromedp.Click("#close"))
	p.Until("closed", "document.querySelector('#drawer').hidden")
}

func eventsAndMoves(s *site, p *chromium.Page) {
	p.Run(chromedp.KeyEvent("3"))
	p.Until("events", chromium.Has("tbody tr", "BackOff"))
	s.event("Pod", "web-7c9d-a1x2k", "Warning", "Unhealthy", "Readiness probe failed: connection refused", 0)
	p.Until("the new one first", "document.querySelector('tbody tr').innerText.includes('connection refused')")
	p.Run(raw("/"), chromedp.KeyEvent("warning harbour"))
	p.Until("only what fits all words", "document.querySelectorAll('tbody tr').length === 1 && "+chromium.Has("tbody tr", "NodeNotReady"))
	p.Run(chromedp.KeyEvent(kb.Escape))
	p.Until("all again", "document.querySelectorAll('tbody tr').length >= 5")
	p.Shot("web-events")
	p.Run(chromedp.KeyEvent("4"))
	p.Until("a move and why", chromium.Has("tbody tr", "desk-7 for 12 %")+" && "+chromium.Has("tbody tr .chip", "Starting"))
	s.patch("/apis/fleet.skerry.dev/v1alpha1/moveplans/move-web-1/status", object{"status": object{"phase": "Done"}})
	p.Until("the move done", chromium.Has("tbody tr .chip", "Done"))
	p.Shot("web-moves")
}

// keyboard uses no pointer: every view, row and dialog is reached, and the focus can be seen.
func keyboard(p *chromium.Page) {
	p.Run(chromedp.KeyEvent("1"), chromedp.Evaluate("document.activeElement.blur(); document.querySelector('.skip').focus()", nil))
	p.Until("a link past the header that shows", "document.querySelector('.skip').getBoundingClientRect().width > 40")
	p.Run(chromedp.KeyEvent(kb.Enter))
	p.Until("focus on the content", focused+".id === 'main'")
	p.Run(chromedp.KeyEvent("2"), chromedp.KeyEvent("j"), chromedp.KeyEvent("j"), chromedp.KeyEvent("k"))
	p.Until("the first row", focused+" === document.querySelector('#view tr[data-open]')")
	p.Until("a focus that shows", "getComputedStyle("+focused+").outlineStyle === 'solid'")
	p.Run(chromedp.KeyEvent(kb.Enter))
	p.Until("its details, not closed by the same key", "!document.querySelector('#drawer').hidden && "+focused+".id === 'drawer'")
	p.Run(chromedp.KeyEvent(kb.Tab))
	p.Until("the close button", focused+".id === 'close'")
	p.Run(chromedp.KeyEvent(kb.Enter))
	p.Until("back on the row", "document.querySelector('#drawer').hidden && "+focused+" === document.querySelector('#view tr[data-open]')")
	p.Run(chromedp.KeyEvent("?"))
	p.Until("help", "document.querySelector('#help').open")
	p.Run(chromedp.KeyEvent(kb.Escape))
	p.Until("no help", "!document.querySelector('#help').open")
	p.Run(chromedp.Evaluate("document.querySelector('.brand').focus()", nil))
	for _, want := range []string{"nodes", "workloads", "events", "moves"} {
		p.Run(chromedp.KeyEvent(kb.Tab))
		p.Until("tab to "+want, focused+".dataset.view === '"+want+"'")
	}
	p.Run(chromedp.KeyEvent(kb.Tab))
	p.Until("tab to the filter", focused+".id === 'filter'")
}

func phone(p *chromium.Page) {
	p.Screen(360, 740, true)
	for i, view := range []string{"nodes", "workloads", "events", "moves"} {
		p.Run(chromedp.Evaluate("document.activeElement.blur()", nil), chromedp.KeyEvent(string(rune('1'+i))))
		p.Until(view+" on a phone", "location.hash === '#/"+view+"' && document.querySelector('#view').childElementCount > 0")
		p.Until(view+" within the edge", "document.documentElement.scrollWidth <= 360 && ![...document.querySelectorAll('.scroll')].some((e) => e.scrollWidth > e.clientWidth)")
		p.Shot("web-phone-" + view)
	}
	p.Run(chromedp.KeyEvent("2"), chromedp.Click("tr[data-open*='b2m4x']"))
	p.Until("the drawer covers the page, which cannot be reached", "document.querySelector('#drawer').clientWidth >= 350 && document.querySelector('#main').inert")
	p.Shot("web-phone-pod")
	p.Run(chromedp.Click("#close"))
	p.Until("the page again", "!document.querySelector('#main').inert")
	p.Screen(1400, 900, false)
}

func preferences(p *chromium.Page) {
	p.Run(chromedp.KeyEvent("1"))
	p.Prefer("prefers-reduced-motion", "reduce")
	p.Until("stillness", "getComputedStyle(document.querySelector('.track rect')).transitionDuration === '0s'")
	p.Prefer("prefers-color-scheme", "dark")
	p.Until("dark", "getComputedStyle(document.documentElement).backgroundColor === 'rgb(16, 24, 28)'")
	p.Shot("web-dark")
	p.Run(chromedp.KeyEvent("2"))
	p.Until("workloads in the dark", "location.hash === '#/workloads'")
	p.Shot("web-dark-workloads")
	p.Prefer("prefers-color-scheme", "light")
}

// TestLostLink: the page says so, keeps what it has, and says since when it is old.
func TestLostLink(t *testing.T) {
	s := newSite(t)
	s.fleet()
	p := chromium.New(t, filepath.Join("..", "..", "tests", "artifacts"))
	p.Run(chromedp.Navigate(s.url + "/ui/#token=" + adminToken))
	p.Until("six nodes", "document.querySelectorAll('article.node').length === 6")
	s.stop()
	p.Until("a word about it", chromium.Has("#link", "Link to the coordinator lost: data as of"))
	p.Until("what was known", "document.querySelectorAll('article.node').length === 6")
	p.Shot("web-lost")
}

// TestLargeFleet: the page stays usable when there is far more than a screen can show.
func TestLargeFleet(t *testing.T) {
	s := newSite(t)
	s.fleet()
	p := chromium.New(t, filepath.Join("..", "..", "tests", "artifacts"))
	p.Run(chromedp.Navigate(s.url + "/ui/#token=" + adminToken))
	p.Until("six nodes", "document.querySelectorAll('article.node').length === 6")
	const grow = `(async () => {
		const { state } = await import('./store.js');
		const [node] = [...state.nodes.values()].filter((n) => n.metadata.name === 'garden');
		const [pod] = [...state.pods.values()].filter((p) => p.spec.nodeName === 'rack-1');
		for (let i = 0; i < 1000; i++) {
			const name = 'edge-' + i;
			state.nodes.set('/' + name, { ...node, metadata: { ...node.metadata, name } });
			for (let j = 0; j < 10; j++) {
				const own = { ...pod.metadata, name: name + '-pod-' + j };
				state.pods.set('default/' + own.name, { ...pod, metadata: own, spec: { ...pod.spec, nodeName: name } });
			}
		}
		state.version++;
		const filter = document.querySelector('#filter');
		const draw = (text) => { const start = performance.now(); filter.value = text; filter.dispatchEvent(new Event('input')); return Math.round(performance.now() - start); };
		window.took = [draw(''), draw(''), draw('edge-77'), draw('')];
		location.hash = '#/workloads';
	})()`
	p.Run(chromedp.Evaluate(grow, nil))
	p.Until("no more pods than can be read", "location.hash === '#/workloads' && [...document.querySelectorAll('tr[data-open]')].length > 400 && "+chromium.Has(".group", "more: narrow the filter"))
	p.Run(chromedp.KeyEvent("1"))
	p.Until("no more nodes than can be read", "document.querySelectorAll('article.node').length === 200 && "+chromium.Has("#view", "806 more: narrow the filter"))
	var took []int
	p.Run(chromedp.Evaluate("window.took", &took))
	t.Logf("drawing 1,006 nodes and 10,009 pods takes, first, again, filtered and all again: %v ms", took)
}
