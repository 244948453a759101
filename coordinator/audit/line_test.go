package audit

import (
	"encoding/json"
	"reflect"
	"testing"
	"time"

	authenticationv1 "k8s.io/api/authentication/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	auditv1 "k8s.io/apiserver/pkg/apis/audit/v1"
)

// FuzzLine compares lines with the library's.
func FuzzLine(f *testing.F) {
	for bits := range 1 << 6 {
		f.Add("get", "/api/v1/pods?x=<y>&z", "kubectl/v1", "pods", int64(1_700_000_000_123_456), int32(200), bits)
	}
	f.Add("a\x00b", "\xff\u2028", "\"\\", "", int64(-62135596800000000), int32(0), 63)
	f.Fuzz(func(t *testing.T, verb, uri, agent, text string, micros int64, code int32, has int) {
		at := metav1.NewMicroTime(time.UnixMicro(micros % (1 << 57)))
		e := &auditv1.Event{
			TypeMeta: metav1.TypeMeta{Kind: "Event", APIVersion: "audit.k8s.io/v1"}, Level: auditv1.LevelMetadata, AuditID: types.UID(text),
			Stage: auditv1.StageResponseComplete, Verb: verb, RequestURI: uri, UserAgent: agent, RequestReceivedTimestamp: at, StageTimestamp: at,
			User: authenticationv1.UserInfo{Username: text, UID: agent},
		}
		if has&1 != 0 {
			e.ObjectRef = &auditv1.ObjectReference{Resource: text, Namespace: verb, Name: uri, UID: types.UID(text), APIGroup: agent, APIVersion: "v1", ResourceVersion: text, Subresource: text}
		}
		if has&2 != 0 {
			e.ResponseStatus = &metav1.Status{Code: code, Status: text, Message: uri, Reason: metav1.StatusReason(agent)}
		}
		if has&4 != 0 {
			e.Annotations = map[string]string{text: uri, verb: agent, "z": "", "a": "b"}
		}
		if has&8 != 0 {
			e.User.Groups, e.SourceIPs = []string{text, ""}, []string{agent}
		}
		if has&16 != 0 {
			e.ImpersonatedUser = &authenticationv1.UserInfo{Username: text}
		}
		if has&32 != 0 {
			e.ResponseStatus = &metav1.Status{Details: &metav1.StatusDetails{Name: text}}
		}
		want, wantErr := json.Marshal(e)
		got, err := line(e)
		if string(got) != string(want) || (err != nil) != (wantErr != nil) {
			t.Errorf("line is\n%s, %v\nwant\n%s, %v", got, err, want, wantErr)
		}
	})
}

// A field that upstream adds would be missing in lines: it is to be written in line, or to make an event uncommon.
func TestLineKnowsAllFields(t *testing.T) {
	for _, tt := range []struct {
		of   any
		want int
	}{
		{auditv1.Event{}, 18}, {auditv1.ObjectReference{}, 8}, {authenticationv1.UserInfo{}, 4}, {metav1.Status{}, 7},
	} {
		if got := reflect.TypeOf(tt.of).NumField(); got != tt.want {
			t.Errorf("%T has %d fields, line was written for %d", tt.of, got, tt.want)
		}
	}
}
