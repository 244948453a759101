package coordinator

import (
	"bytes"
	"encoding/json"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"skerry.dev/skerry/api"
	"skerry.dev/skerry/coordinator/apiserver/authn"
	"skerry.dev/skerry/messaging"
)

// Whoever could have a certificate signed could be anybody.
func TestCertificatesAreForAdministrators(t *testing.T) {
	authority, err := messaging.OpenAuthority(t.TempDir(), time.Now())
	if err != nil {
		t.Fatal(err)
	}
	h := &certificates{authority: authority, log: slog.New(slog.DiscardHandler)}
	admin := authn.User{Name: adminUser, Groups: []string{adminGroup}}
	page := admin
	page.Cookie = true
	for _, tt := range []struct {
		name, method, path string
		by                 authn.User
		user               string
		groups             []string
		expires            string
		system             bool
		code               int
		says               string
	}{
		{name: "administrator", by: admin, user: "ci", groups: []string{"deployers"}, expires: "1h", code: 200},
		{name: "somebody", by: authn.User{Name: "ci", Groups: []string{"deployers", authn.GroupAuthenticated}}, user: "ci", expires: "1h", code: 403, says: "only administrators"},
		{name: "nobody", by: authn.Anonymous(), user: "ci", expires: "1h", code: 403},
		{name: "the web page", by: page, user: "ci", expires: "1h", code: 405},
		{name: "another path", by: admin, path: api.CertificatePath + "/x", user: "ci", expires: "1h", code: 404},
		{name: "another method", by: admin, method: "GET", user: "ci", expires: "1h", code: 405},
		{name: "no end", by: admin, user: "ci", expires: "", code: 400, says: "expiresIn"},
		{name: "for ever", by: admin, user: "ci", expires: "87600h", code: 400, says: "8760h"},
		{name: "backwards", by: admin, user: "ci", expires: "-1h", code: 400},
		{name: "system user", by: admin, user: "system:x", expires: "1h", code: 400, says: "--system"},
		{name: "system group", by: admin, user: "ci", groups: []string{"system:masters"}, expires: "1h", code: 400, says: `"system:masters"`},
		{name: "system, meant", by: admin, user: "ci", groups: []string{"system:masters"}, expires: "1h", system: true, code: 200},
		{name: "empty group", by: admin, user: "ci", groups: []string{""}, expires: "1h", code: 400},
	} {
		t.Run(tt.name, func(t *testing.T) {
			request, _, err := messaging.NewClientRequest(tt.user, tt.groups)
			if err != nil {
				t.Fatal(err)
			}
			body, err := json.Marshal(api.CertificateRequest{Request: request, ExpiresIn: tt.expires, System: tt.system})
			if err != nil {
				t.Fatal(err)
			}
			path, method := tt.path, tt.method
			if path == "" {
				path = api.CertificatePath
			}
			if method == "" {
				method = http.MethodPost
			}
			r := httptest.NewRequest(method, path, bytes.NewReader(body))
			w := httptest.NewRecorder()
			h.ServeHTTP(w, r.WithContext(authn.NewContext(r.Context(), tt.by)))
			if w.Code != tt.code || !strings.Contains(w.Body.String(), tt.says) {
				t.Errorf("%d %s, want %d %s", w.Code, w.Body, tt.code, tt.says)
			}
			if got := strings.Contains(w.Body.String(), `"certificate":`); got != (tt.code == 200) {
				t.Errorf("signed: %v: %s", got, w.Body)
			}
		})
	}
}
