package api

// BuildVersion is the version of the binary, set by the linker; "dev" when it was not.
var BuildVersion = "dev"
