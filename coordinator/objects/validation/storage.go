package validation

import (
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"k8s.io/kubernetes/pkg/apis/core"
	corerules "k8s.io/kubernetes/pkg/apis/core/validation"
	"k8s.io/kubernetes/pkg/apis/storage"
	storagerules "k8s.io/kubernetes/pkg/apis/storage/validation"
)

func (v *Validator) addStorage() {
	kind(v, coreKind("PersistentVolume"), func(pv *core.PersistentVolume) field.ErrorList {
		return corerules.ValidatePersistentVolume(pv, corerules.ValidationOptionsForPersistentVolume(pv, nil))
	}, func(pv, old *core.PersistentVolume) field.ErrorList {
		return corerules.ValidatePersistentVolumeUpdate(pv, old, corerules.ValidationOptionsForPersistentVolume(pv, old))
	}, corerules.ValidatePersistentVolumeStatusUpdate, nil)
	kind(v, coreKind("PersistentVolumeClaim"), func(c *core.PersistentVolumeClaim) field.ErrorList {
		return corerules.ValidatePersistentVolumeClaim(c, corerules.ValidationOptionsForPersistentVolumeClaim(c, nil))
	}, func(c, old *core.PersistentVolumeClaim) field.ErrorList {
		return corerules.ValidatePersistentVolumeClaimUpdate(c, old, corerules.ValidationOptionsForPersistentVolumeClaim(c, old))
	}, func(c, old *core.PersistentVolumeClaim) field.ErrorList {
		return corerules.ValidatePersistentVolumeClaimStatusUpdate(c, old, corerules.ValidationOptionsForPersistentVolumeClaim(c, old))
	}, nil)
	kind(v, schema.GroupKind{Group: storage.GroupName, Kind: "StorageClass"}, storagerules.ValidateStorageClass, storagerules.ValidateStorageClassUpdate, nil, nil)
}
