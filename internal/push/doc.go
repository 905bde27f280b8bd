// Package push says which messages notify whom on which device, in which words,
// and what came of it. It reads pushExt, decides, composes and names the classes
// of answers. It does no I/O: each provider has a package of its own below that
// renders a [Notification] into a request and reads the answer.
//
// docs/push.md describes the whole way of a notification.
package push
