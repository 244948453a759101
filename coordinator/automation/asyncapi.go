package automation

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"

	"github.com/nats-io/nats.go/micro"

	"skerry.dev/skerry/coordinator/resource"
	"skerry.dev/skerry/messaging"
)

const (
	// DocumentSubject answers with the AsyncAPI document of everything that this package serves, itself included.
	DocumentSubject = messaging.APIGroup + "." + documentName
	// DocumentPath is the same over HTTP.
	DocumentPath = "/asyncapi/v3"

	documentName = "asyncapi"

	documentRequest  = `{"description":"nothing"}`
	documentResponse = `{"type":"object","description":"an AsyncAPI 3 document","required":["asyncapi"]}`
)

// object is a JSON object.
type object map[string]any

// document is an AsyncAPI 3 document as it grows.
type document struct {
	channels, operations object
}

// Document describes every subject in AsyncAPI 3.0, from the table that the endpoints themselves are made of. version is
// the program's.
func Document(version string) ([]byte, error) {
	d := document{channels: object{}, operations: object{}}
	for _, s := range served() {
		operation := d.addRequest(s.operation(), s.subject(), s.verb.description(s.res), json.RawMessage(s.verb.request), json.RawMessage(s.verb.response(s.res)))
		operation.need(s.res, s.verb)
	}
	d.addRequest(documentName, DocumentSubject, "this document", json.RawMessage(documentRequest), json.RawMessage(documentResponse))
	d.addChanges()
	return json.Marshal(object{
		"asyncapi": "3.0.0",
		"info": object{
			"title": "Skerry automation", "version": version,
			"description": "The objects of a Skerry cluster over NATS. Requests go to " + messaging.APIGroup + ".<kind>.<verb>; every change is told in the stream " + messaging.StreamEvents + ".",
		},
		"defaultContentType": "application/json",
		"channels":           d.channels, "operations": d.operations,
		"components": object{"securitySchemes": securitySchemes(), "messages": object{"error": object{
			"summary": "why the request failed: a Status of v1",
			"headers": object{"type": "object", "required": []string{micro.ErrorCodeHeader}, "properties": object{
				micro.ErrorCodeHeader: object{"type": "string", "description": "as of HTTP"},
				micro.ErrorHeader:     object{"type": "string"},
			}},
			"payload": object{"type": "object", "required": []string{"kind", "code", "message"}, "properties": object{"kind": object{"const": "Status"}}},
		}}},
	})
}

// securitySchemes are the ways to log in.
func securitySchemes() object {
	return object{
		"certificate": object{"type": "X509", "description": "a client certificate of the cluster's authority, as skerry user add --pem writes it"},
		"token":       object{"type": "userPassword", "description": "a bearer token of the Kubernetes API, the administrator's or a ServiceAccount's, as the password; the user name does not matter"},
	}
}

// need says what a user must be allowed to do by RBAC, for programs that want to know.
func (o object) need(res *resource.Resource, v verb) {
	verbs := []string{v.right}
	if v.right == "patch" {
		verbs = append(verbs, "create")
	}
	text := fmt.Sprintf("The user needs the right to %s the resource %s", v.right, res.GroupResource())
	if v.right == "patch" {
		text += ", and to create it when it does not exist"
	}
	o["description"] = text + ", as over HTTP. Impersonation is not offered."
	o["x-skerry-rbac"] = object{"apiGroup": res.GVK.Group, "resource": res.Plural, "verbs": verbs}
}

func ref(path ...string) object { return object{"$ref": "#/" + strings.Join(path, "/")} }

// addRequest describes a subject that answers, and returns its operation.
func (d *document) addRequest(name, subject, summary string, request, response any) object {
	reply := name + "-reply"
	d.channels[name] = object{"address": subject, "messages": object{"request": object{"payload": request}}}
	d.channels[reply] = object{"address": nil, "messages": object{"response": object{"payload": response}, "error": ref("components", "messages", "error")}}
	operation := object{
		"action": "receive", "summary": summary, "channel": ref("channels", name), "security": security(),
		"messages": []object{ref("channels", name, "messages", "request")},
		"reply": object{
			"address": object{"location": "$message.header#/reply", "description": "the reply subject of the NATS message"},
			"channel": ref("channels", reply),
			"messages": []object{
				ref("channels", reply, "messages", "response"), ref("channels", reply, "messages", "error"),
			},
		},
	}
	d.operations[name] = operation
	return operation
}

// addChanges describes the stream of changes.
func (d *document) addChanges() {
	const name = "changes"
	kinds := []string{resyncKind}
	seen := map[string]bool{}
	for _, s := range served() {
		if !seen[s.res.Plural] {
			kinds, seen[s.res.Plural] = append(kinds, s.res.Plural), true
		}
	}
	d.channels[name] = object{
		"address": strings.TrimSuffix(messaging.EventAll, ">") + "{namespace}.{kind}.{name}.{verb}",
		"parameters": object{
			"namespace": object{"description": "empty is written as the token for it; see the object for its own"},
			"kind":      object{"enum": kinds}, "name": object{},
			"verb": object{"enum": []string{"added", "modified", "deleted", strings.ToLower(typeResync)}},
		},
		"messages": object{"change": object{"payload": changeSchema()}},
	}
	d.operations[name] = object{
		"action": "send", "summary": "every change of every object, once and in order; kept in the stream " + messaging.StreamEvents,
		"description": "A user hears the changes of what it may watch: subscribe to no more than that, by kind (*.pods.>), namespace and kind (shop.pods.>) or namespace (shop.*.>), else the server refuses the subscription. The stream itself is for administrators. When rights change, the connection is ended and can be made again.",
		"channel":     ref("channels", name), "messages": []object{ref("channels", name, "messages", "change")}, "security": security(),
	}
}

func security() []object {
	return []object{ref("components", "securitySchemes", "certificate"), ref("components", "securitySchemes", "token")}
}

// changeSchema is that of a Change.
func changeSchema() object {
	return object{
		"type": "object", "additionalProperties": false, "required": []string{"type", "kind", "revision"},
		"properties": object{
			"type":      object{"enum": []string{"ADDED", "MODIFIED", "DELETED", typeResync}},
			"kind":      object{"type": "string", "description": "plural, as in the subject"},
			"namespace": object{"type": "string"}, "name": object{"type": "string"},
			"revision": object{"type": "integer", "minimum": 0, "description": "of the store"},
			"object":   object{"type": "object", "description": "as the Kubernetes API has it; a Secret is without data"},
		},
	}
}

// endpoint is one subject: a verb of a kind.
type endpoint struct {
	res  *resource.Resource
	verb verb
}

// served are all endpoints of all kinds. A kind that shows another's objects would need the same subjects, and has none.
func served() []endpoint {
	var all []endpoint
	for _, res := range resource.All() {
		for _, v := range verbs {
			if res.Stored == nil {
				all = append(all, endpoint{res, v})
			}
		}
	}
	return all
}

func (s endpoint) operation() string { return s.res.Plural + "-" + s.verb.name }

func (s endpoint) subject() string {
	return messaging.APIGroup + "." + s.res.Plural + "." + s.verb.name
}

func (v verb) description(res *resource.Resource) string {
	return fmt.Sprintf("%s %s of %s", v.name, res.Plural, res.GVK.GroupVersion())
}

// NewDocumentHandler serves the document at DocumentPath.
func NewDocumentHandler(version string) (http.Handler, error) {
	body, err := Document(version)
	if err != nil {
		return nil, fmt.Errorf("describe the automation subjects: %w", err)
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != DocumentPath {
			http.NotFound(w, r)
			return
		}
		if r.Method != http.MethodGet && r.Method != http.MethodHead {
			w.Header().Set("Allow", "GET, HEAD")
			http.Error(w, "only GET and HEAD", http.StatusMethodNotAllowed)
			return
		}
		w.Header().Set("Content-Type", "application/json")
		_, _ = w.Write(body) // the client may be gone
	}), nil
}
