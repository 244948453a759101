package automation

import (
	"fmt"

	"skerry.dev/skerry/coordinator/resource"
)

// The schemas in the endpoints' metadata say what to send and what comes back, in JSON Schema. Objects themselves are
// those of the Kubernetes API; their fields are in its OpenAPI documents.
const (
	listRequest = `{"type":"object","additionalProperties":false,"properties":{` +
		`"namespace":{"type":"string","description":"empty for all"},` +
		`"labelSelector":{"type":"string"},` +
		`"limit":{"type":"integer","minimum":0},` +
		`"continue":{"type":"string"}}}`

	applyRequest = `{"oneOf":[{"type":"object","description":"a manifest, JSON or YAML","required":["apiVersion","kind","metadata"]},` +
		`{"type":"object","additionalProperties":false,"required":["object"],"properties":{` +
		`"namespace":{"type":"string"},"name":{"type":"string"},"object":{"type":"object"},"dryRun":{"type":"boolean"}}}]}`

	deleteFields = `,"dryRun":{"type":"boolean"},"gracePeriodSeconds":{"type":"integer","minimum":0},` +
		`"propagationPolicy":{"enum":["Background","Foreground","Orphan"]}`
)

func named(more string) string {
	return `{"type":"object","additionalProperties":false,"required":["name"],"properties":{` +
		`"namespace":{"type":"string","default":"default"},"name":{"type":"string"}` + more + `}}`
}

func objectSchema(res *resource.Resource) string {
	apiVersion, kind := res.GVK.ToAPIVersionAndKind()
	return fmt.Sprintf(`{"type":"object","description":"a %s of %s, or a Status"}`, kind, apiVersion)
}

func listSchema(res *resource.Resource) string {
	apiVersion, kind := res.ListGVK().ToAPIVersionAndKind()
	return fmt.Sprintf(`{"type":"object","description":"a %s of %s"}`, kind, apiVersion)
}

func (v verb) metadata(res *resource.Resource) map[string]string {
	return map[string]string{"request": v.request, "response": v.response(res), "errors": "a Status of v1, code in Nats-Service-Error-Code"}
}
