package apiserver

import (
	"bytes"
	"encoding/json"
	"fmt"

	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	utiljson "k8s.io/apimachinery/pkg/util/json"
	"sigs.k8s.io/yaml"
)

var protobufMagic = []byte("k8s\x00")

// decodeAs reads data of a media type into obj, whose kind is gvk. A body without kind and apiVersion is taken for one;
// another kind is refused. The version is not looked at: clients send options in meta/v1, in v1 and in the resource's.
func decodeAs(media string, data []byte, obj runtime.Object, gvk schema.GroupVersionKind) error {
	if media == typeProtobuf {
		return decodeProtobuf(data, obj, gvk)
	}
	if media == typeYAML {
		converted, err := yaml.YAMLToJSON(data)
		if err != nil {
			return badRequest("error decoding YAML: %v", err)
		}
		data = converted
	}
	if len(bytes.TrimSpace(data)) == 0 {
		return badRequest("the body is empty: a %s is expected", gvk.Kind)
	}
	if !json.Valid(data) {
		return badRequest("couldn't get version/kind; json parse error: %v", json.Unmarshal(data, new(any)))
	}
	if err := utiljson.Unmarshal(data, obj); err != nil {
		return badRequest("%v", fmt.Errorf("%s in version %q cannot be handled as a %s: %w", gvk.Kind, gvk.GroupVersion(), gvk.Kind, err))
	}
	return checkKind(obj, obj.GetObjectKind().GroupVersionKind(), gvk)
}

func decodeProtobuf(data []byte, obj runtime.Object, gvk schema.GroupVersionKind) error {
	m, ok := obj.(interface{ Unmarshal(data []byte) error })
	body, framed := bytes.CutPrefix(data, protobufMagic)
	if !ok || !framed {
		return badRequest("the body is no protobuf object of kind %s", gvk.Kind)
	}
	var unknown runtime.Unknown
	if err := unknown.Unmarshal(body); err != nil {
		return badRequest("read protobuf envelope: %v", err)
	}
	if err := m.Unmarshal(unknown.Raw); err != nil {
		return badRequest("read protobuf %s: %v", gvk.Kind, err)
	}
	return checkKind(obj, schema.FromAPIVersionAndKind(unknown.APIVersion, unknown.Kind), gvk)
}

func checkKind(obj runtime.Object, have, want schema.GroupVersionKind) error {
	if have.Kind != "" && have.Kind != want.Kind {
		return badRequest("the body is a %s, but a %s is expected", have.Kind, want.Kind)
	}
	obj.GetObjectKind().SetGroupVersionKind(want)
	return nil
}
