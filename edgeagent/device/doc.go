// Package device knows which device nodes of this machine pods may claim, as which resource, and who has claimed which.
//
// Package hwprobe finds hardware; Sort puts it into classes by the agent's settings. The Ledger gives each device to one
// container at a time and remembers that on disk; it also says which claims are on devices that are gone. What becomes of
// their pods is the agent's business, and access to a device the keeper's.
package device
