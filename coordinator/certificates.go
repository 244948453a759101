package coordinator

import (
	"encoding/json"
	"fmt"
	"log/slog"
	"net/http"
	"slices"
	"strings"
	"time"

	"skerry.dev/skerry/api"
	"skerry.dev/skerry/coordinator/apiserver/authn"
	"skerry.dev/skerry/messaging"
)

// certificates signs the client certificates that `skerry user add` asks for. Nothing remembers them and nothing revokes
// them, so only members of system:masters get one signed: they could act as anybody anyway.
type certificates struct {
	authority *messaging.Authority
	log       *slog.Logger
}

// maxCertificateRequest is many times what a request with a few groups needs, in bytes.
const maxCertificateRequest = 64 << 10

// ServeHTTP answers POST with an api.Certificate.
func (h *certificates) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	user := authn.FromContext(r.Context())
	switch {
	case !user.In(authn.GroupMasters):
		http.Error(w, "only administrators may have certificates signed", http.StatusForbidden)
	case r.URL.Path != api.CertificatePath:
		http.NotFound(w, r)
	case r.Method == http.MethodPost && !user.Cookie:
		h.sign(w, r, user)
	default:
		http.Error(w, "want POST", http.StatusMethodNotAllowed)
	}
}

func (h *certificates) sign(w http.ResponseWriter, r *http.Request, by authn.User) {
	var in api.CertificateRequest
	decoder := json.NewDecoder(http.MaxBytesReader(w, r.Body, maxCertificateRequest))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(&in); err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	request, life, err := readCertificateRequest(in)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	cert, ends, err := h.authority.SignClient(request, life, time.Now())
	if err != nil {
		h.log.Error("certificate not signed", "user", request.User, "err", err)
		http.Error(w, "the certificate could not be signed: see the coordinator's log", http.StatusInternalServerError)
		return
	}
	h.log.Info("certificate signed", "user", request.User, "groups", request.Groups, "expires", ends, "by", by.Name)
	write(w, api.Certificate{Certificate: cert, Authority: h.authority.PEM(), Expires: ends})
}

func readCertificateRequest(in api.CertificateRequest) (messaging.ClientRequest, time.Duration, error) {
	request, err := messaging.ParseClientRequest(in.Request)
	if err != nil {
		return request, 0, err
	}
	life, err := time.ParseDuration(in.ExpiresIn)
	if err != nil || life <= 0 || life > messaging.MaxClientLife {
		return request, 0, fmt.Errorf("expiresIn %q is no duration of up to %s", in.ExpiresIn, messaging.MaxClientLife)
	}
	for _, name := range append([]string{request.User}, request.Groups...) {
		if strings.HasPrefix(name, "system:") && !in.System {
			return request, 0, fmt.Errorf("%q is a name of the system, which has rights that no binding shows: say that it is meant (--system)", name)
		}
	}
	if slices.Contains(request.Groups, "") {
		return request, 0, fmt.Errorf("a group of %q has no name", request.User)
	}
	return request, life, nil
}
